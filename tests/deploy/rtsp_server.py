"""An RTSP server of one picture, H.264 over TCP or UDP, in Debian's Python with GStreamer.

Run: /usr/bin/python3 tests/deploy/rtsp_server.py PORT FRAME.png (needs make system-packages).
Prints "ready" when rtsp://127.0.0.1:PORT/hand can be asked.
"""

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

FPS = 20


def main():
    port, picture = sys.argv[1:]
    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(port)
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(
        f"( filesrc location={picture} ! pngdec ! imagefreeze is-live=true ! videoconvert "
        f"! video/x-raw,format=I420,framerate={FPS}/1 "
        f"! x264enc tune=zerolatency key-int-max={FPS // 2} ! rtph264pay name=pay0 pt=96 )"
    )
    factory.set_shared(True)
    server.get_mount_points().add_factory("/hand", factory)
    server.attach(None)
    print("ready", flush=True)
    GLib.MainLoop().run()


if __name__ == "__main__":
    main()
