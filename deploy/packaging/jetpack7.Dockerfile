# What it is: the runtime in a container for JetPack 7 (Thor; Python 3.12).
# Command, in the unpacked bundle: docker build -f deploy/packaging/jetpack7.Dockerfile -t hand-gestures .
# docker run --rm --runtime nvidia --network host --device /dev/video0 hand-gestures --source 0 --sink mqtt://127.0.0.1/hands
# A CSI camera: -v /tmp/argus_socket:/tmp/argus_socket. Passwords and tokens: --env-file FILE.
FROM nvcr.io/nvidia/tensorrt:25.08-py3
ENV DEBIAN_FRONTEND=noninteractive PYTHONUNBUFFERED=1
# Debian's OpenCV has GStreamer, with which CSI cameras and the device's decoder are read; pip's has not.
RUN apt-get update && apt-get install -y --no-install-recommends \
        python3-pip python3-numpy python3-opencv gstreamer1.0-tools gstreamer1.0-plugins-good gstreamer1.0-plugins-bad gstreamer1.0-libav \
    && rm -rf /var/lib/apt/lists/*
RUN pip3 install --no-cache-dir --break-system-packages onnxruntime 'paho-mqtt<3' pycuda
WORKDIR /opt/hand-gestures
COPY deploy deploy
COPY models models
COPY engines.json manifest.json ./
# Engines and kernels are built on the device (--build) and belong in a volume: -v engines:/opt/hand-gestures/models
ENTRYPOINT ["python3", "-m", "deploy.run"]
