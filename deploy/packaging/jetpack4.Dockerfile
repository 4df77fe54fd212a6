# What it is: the runtime in a container for JetPack 4.6 (Nano, TX2, Xavier; Python 3.6); TensorRT and CUDA come from the host.
# Command, in the unpacked bundle: docker build -f deploy/packaging/jetpack4.Dockerfile -t hand-gestures .
# docker run --rm --runtime nvidia --network host --device /dev/video0 hand-gestures --source 0 --sink mqtt://127.0.0.1/hands
# A CSI camera: -v /tmp/argus_socket:/tmp/argus_socket. Passwords and tokens: --env-file FILE.
FROM nvcr.io/nvidia/l4t-base:r32.7.1
ENV DEBIAN_FRONTEND=noninteractive PYTHONUNBUFFERED=1
# Debian's OpenCV has GStreamer, with which CSI cameras and the device's decoder are read; pip's has not.
RUN apt-get update && apt-get install -y --no-install-recommends \
        python3-pip python3-numpy python3-opencv python3-setuptools gstreamer1.0-tools gstreamer1.0-plugins-good \
    && rm -rf /var/lib/apt/lists/*
RUN pip3 install --no-cache-dir 'onnxruntime==1.9.0' 'paho-mqtt==1.6.1'
WORKDIR /opt/hand-gestures
COPY deploy deploy
COPY models models
COPY engines.json manifest.json ./
# Engines and kernels are built on the device (--build) and belong in a volume: -v engines:/opt/hand-gestures/models
ENTRYPOINT ["python3", "-m", "deploy.run"]
