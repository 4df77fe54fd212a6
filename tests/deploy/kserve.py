"""A server that speaks KServe v2 (gRPC and HTTP) on loopback, for tests of the Triton client.

It computes with the functions it is given (ONNX Runtime in the tests), and can be told to fail:
`ready`, `delay_s`, `spoil` (changes the outputs). Needs tritonclient for the messages of gRPC.
"""

import contextlib
import json
import socket
import threading
import time
from concurrent import futures
from http.server import BaseHTTPRequestHandler, HTTPServer
from socketserver import ThreadingMixIn

import numpy as np


class Served:
    """The models of a server by name: (ModelInfo, function), and what goes wrong with them."""

    def __init__(self, models, *, max_batch_size=8):
        self.models = models
        self.max_batch_size = max_batch_size
        self.ready = True
        self.delay_s = 0.0
        self.spoil = None
        self.batch_sizes = []

    def metadata(self, name):
        info, _ = self.models[name]
        tensors = [(info.input_name, info.input_shape), *info.outputs.items()]
        described = [
            {"name": key, "datatype": "FP32", "shape": [-1, *shape]} for key, shape in tensors
        ]
        return {"name": name, "inputs": described[:1], "outputs": described[1:]}

    def infer(self, name, batch):
        time.sleep(self.delay_s)
        self.batch_sizes.append(len(batch))
        outputs = self.models[name][1](batch)
        return self.spoil(outputs) if self.spoil else outputs


def _servicer(served):
    from tritonclient.grpc import service_pb2, service_pb2_grpc

    class Servicer(service_pb2_grpc.GRPCInferenceServiceServicer):
        def ServerMetadata(self, request, context):
            return service_pb2.ServerMetadataResponse(name="test", version="1.0")

        def ModelReady(self, request, context):
            ready = served.ready and request.name in served.models
            return service_pb2.ModelReadyResponse(ready=ready)

        def ModelMetadata(self, request, context):
            return service_pb2.ModelMetadataResponse(**served.metadata(request.name))

        def ModelConfig(self, request, context):
            response = service_pb2.ModelConfigResponse()
            response.config.max_batch_size = served.max_batch_size
            return response

        def ModelInfer(self, request, context):
            shape = list(request.inputs[0].shape)
            batch = np.frombuffer(request.raw_input_contents[0], np.float32).reshape(shape)
            response = service_pb2.ModelInferResponse(model_name=request.model_name)
            for name, value in served.infer(request.model_name, batch).items():
                response.outputs.add(name=name, datatype="FP32", shape=value.shape)
                response.raw_output_contents.append(value.astype(np.float32).tobytes())
            return response

    return Servicer()


@contextlib.contextmanager
def grpc_server(served):
    """Serve by gRPC; the block gets host:port."""
    import grpc
    from tritonclient.grpc import service_pb2_grpc

    server = grpc.server(futures.ThreadPoolExecutor(2))
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(_servicer(served), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(grace=2).wait()


def _handler(served):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, *arguments):
            """Say nothing."""

        def do_GET(self):
            parts = self.path.strip("/").split("/")
            if parts == ["v2"]:
                self._send(json.dumps({"name": "test", "version": "1.0"}).encode())
            elif parts[-1] == "ready":
                self._send(b"", status=200 if served.ready else 400)
            elif parts[-1] == "config":
                self._send(json.dumps({"max_batch_size": served.max_batch_size}).encode())
            else:
                self._send(json.dumps(served.metadata(parts[2])).encode())

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            header = int(self.headers["Inference-Header-Content-Length"])
            shape = json.loads(body[:header])["inputs"][0]["shape"]
            batch = np.frombuffer(body[header:], np.float32).reshape(shape)
            outputs = served.infer(self.path.strip("/").split("/")[2], batch)
            raw = {name: value.astype(np.float32).tobytes() for name, value in outputs.items()}
            described = [
                {
                    "name": name,
                    "datatype": "FP32",
                    "shape": list(value.shape),
                    "parameters": {"binary_data_size": len(raw[name])},
                }
                for name, value in outputs.items()
            ]
            head = json.dumps({"model_name": "m", "outputs": described}).encode()
            self._send(head + b"".join(raw.values()), header=len(head))

        def _send(self, body, *, status=200, header=None):
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            if header is not None:
                self.send_header("Inference-Header-Content-Length", str(header))
            with contextlib.suppress(BrokenPipeError):  # the client has given up waiting
                self.end_headers()
                self.wfile.write(body)

    return Handler


class _HttpServer(ThreadingMixIn, HTTPServer):
    """Closes kept-alive connections too when it ends, as a server does that dies."""

    daemon_threads = True

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.connections = []

    def process_request(self, request, client_address):
        self.connections.append(request)
        super().process_request(request, client_address)

    def server_close(self):
        super().server_close()
        for connection in self.connections:
            with contextlib.suppress(OSError):  # closed by the client already
                connection.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def http_server(served):
    """Serve by HTTP; the block gets host:port."""
    server = _HttpServer(("127.0.0.1", 0), _handler(served))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
