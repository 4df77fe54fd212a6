"""Stand-ins for docker: an engine on a unix socket, the program `docker`, and NVIDIA's container.

They share a state folder: images.json, containers.json, requests.jsonl (what the engine was asked
for), commands.jsonl (what `docker` was called with) and scenario.json (what goes wrong next).
"""
