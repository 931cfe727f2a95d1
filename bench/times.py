"""How long an edited manifest takes to be in force, and a killed server to be used again. Standard library only.

    python3 bench/times.py [BINARY]        (default target/release/tidegate)
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

BINARY = sys.argv[1] if len(sys.argv) > 1 else "target/release/tidegate"
SERVERS, LISTEN, ADMIN = (18101, 18102), 18080, "127.0.0.1:18099"
EDITS, KILLS, CONNECTIONS = 50, 3, 4


def start_server(port):
    command = [BINARY, "sim", "--port", str(port), "--served-model-name", "m", "--speed", "20"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    server.stdout.readline()  # it says where it listens when it is ready
    return server


def write(folder, weight):
    group = "inference.networking.k8s.io"
    documents = [
        {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": "g"},
         "spec": {"gatewayClassName": "t", "listeners": [{"name": "h", "protocol": "HTTP", "port": LISTEN}]}},
        {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "r"},
         "spec": {"parentRefs": [{"name": "g"}], "rules": [{"backendRefs": [
             {"group": group, "kind": "InferencePool", "name": "p", "weight": weight}]}]}},
        {"apiVersion": group + "/v1", "kind": "InferencePool", "metadata": {"name": "p"},
         "spec": {"selector": {"matchLabels": {"a": "b"}}, "targetPorts": [{"number": 8000}]}},
    ]
    for port in SERVERS:
        documents.append({"apiVersion": "tidegate.dev/v1alpha1", "kind": "ModelServer",
                          "metadata": {"name": f"s{port}", "labels": {"a": "b"}},
                          "spec": {"address": f"127.0.0.1:{port}"}})
    beside = os.path.join(folder, "all.tmp~")
    with open(beside, "w") as file:
        file.write("\n---\n".join(map(json.dumps, documents)))
    os.rename(beside, os.path.join(folder, "all.yaml"))


def generation():
    return json.load(urllib.request.urlopen(f"http://{ADMIN}/snapshot"))["generation"]


def ask():
    body = json.dumps({"model": "m", "max_tokens": 4, "messages": [{"role": "user", "content": "hi"}]}).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{LISTEN}/v1/chat/completions", data=body,
                                     headers={"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        answer.read()
        return answer.headers["x-sim-server"]


def edits(folder):
    times = []
    for number in range(EDITS):
        before, started = generation(), time.monotonic()
        write(folder, number + 2)
        while generation() == before:
            time.sleep(0.002)
        times.append((time.monotonic() - started) * 1000)
    times.sort()
    print(f"edit to in force: median {times[EDITS // 2]:.0f} ms, max {times[-1]:.0f} ms of {EDITS}")


def kills(servers):
    answers, errors, stop = [], [], threading.Event()

    def load():
        while not stop.is_set():
            try:
                answers.append((time.monotonic(), ask()))
            except OSError as error:
                errors.append(repr(error))

    threads = [threading.Thread(target=load) for _ in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    name, back = f"127.0.0.1:{SERVERS[0]}", []
    for _ in range(KILLS):
        time.sleep(2)
        servers[0].kill()
        servers[0].wait()
        time.sleep(4)
        servers[0] = start_server(SERVERS[0])
        started = time.monotonic()
        while not any(when > started and who == name for when, who in answers):
            time.sleep(0.01)
        back.append(time.monotonic() - started)
    stop.set()
    for thread in threads:
        thread.join()
    print(f"killed, and in use again after its return: {', '.join(f'{each:.1f} s' for each in back)}; "
          f"{len(answers)} answers, {len(errors)} errors {errors[:2]}")


def main():
    servers = [start_server(port) for port in SERVERS]
    gateway = None
    try:
        with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as state:
            write(folder, 1)
            gateway = subprocess.Popen([BINARY, "serve", "-f", folder, "--bind", "127.0.0.1", "--admin", ADMIN,
                                        "--state-dir", state, "--no-access-log"], stderr=subprocess.DEVNULL)
            for _ in range(200):
                try:
                    generation()
                    break
                except OSError:
                    time.sleep(0.05)
            edits(folder)
            kills(servers)
    finally:
        for process in [gateway, *servers]:
            if process:
                process.kill()
                process.wait()


main()
