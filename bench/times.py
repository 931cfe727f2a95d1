"""How long an edited manifest takes to be in force, a killed server to be used again, and a folder with 10,000 documents
to be loaded. Standard library only.

    python3 bench/times.py [BINARY]        (default target/release/tidegate)
"""

import http.client
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
# Files of a large folder, five documents each.
FILES = 2_000


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
    write_file(folder, "all.yaml", documents)


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


def release(number, weight, host):
    """One release: a route, its two pools, and what rewrites the model in each."""
    group, route = "inference.networking.k8s.io", f"r{number}"
    pools = [f"{route}-stable", f"{route}-candidate"]
    documents = [{"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": route},
                  "spec": {"parentRefs": [{"name": "g"}], "hostnames": [host],
                           "rules": [{"backendRefs": [
                               {"group": group, "kind": "InferencePool", "name": pool, "weight": share}
                               for pool, share in zip(pools, (100 - weight, weight))]}]}}]
    for pool in pools:
        documents += [
            {"apiVersion": group + "/v1", "kind": "InferencePool", "metadata": {"name": pool},
             "spec": {"selector": {"matchLabels": {"pool": pool}}, "targetPorts": [{"number": 8000}]}},
            {"apiVersion": "llm-d.ai/v1alpha2", "kind": "InferenceModelRewrite", "metadata": {"name": pool},
             "spec": {"poolRef": {"name": pool}, "rules": [{"matches": [{"model": {"type": "Exact", "value": "m"}}],
                                                            "targets": [{"modelRewrite": f"m-{pool}"}]}]}}]
    return documents


def write_file(folder, name, documents):
    with open(os.path.join(folder, name + "~"), "w") as file:
        file.write("\n---\n".join(map(json.dumps, documents)))
    os.rename(os.path.join(folder, name + "~"), os.path.join(folder, name))


def ready():
    try:
        return urllib.request.urlopen(f"http://{ADMIN}/readyz").status == 200
    except OSError:
        return False


def status_of(host):
    """What a request for this host gets: 404 before a route has it, 503 then, since its pools have no servers."""
    connection = http.client.HTTPConnection("127.0.0.1", LISTEN, timeout=30)
    try:
        connection.request("GET", "/", headers={"host": host})
        return connection.getresponse().status
    finally:
        connection.close()


def resident(process):
    with open(f"/proc/{process.pid}/status") as status:
        line = next(line for line in status if line.startswith("VmRSS"))
    return int(line.split()[1]) // 1024


def processor_seconds(process):
    with open(f"/proc/{process.pid}/stat") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def many(folder, state):
    gateway = {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": "g"},
               "spec": {"gatewayClassName": "t", "listeners": [{"name": "h", "protocol": "HTTP", "port": LISTEN}]}}
    write_file(folder, "gateway.yaml", [gateway])
    for number in range(FILES):
        write_file(folder, f"{number}.yaml", release(number, 10, f"r{number}.example.com"))
    started = time.monotonic()
    process = serve(folder, state)
    try:
        while not ready():
            time.sleep(0.005)
        loaded, times = time.monotonic() - started, []
        used, memory = processor_seconds(process), resident(process)
        for number in range(10):
            started, host = time.monotonic(), f"edited{number}.example.com"
            write_file(folder, f"{number}.yaml", release(number, 50, host))
            # Asked of the listener: to print a table of that size would be most of what is measured.
            while status_of(host) == 404:
                time.sleep(0.005)
            times.append((time.monotonic() - started) * 1000)
        times.sort()
        each = (processor_seconds(process) - used) / len(times) * 1000
        print(f"{5 * FILES} documents in {FILES} files: ready after {loaded:.2f} s ({used:.2f} s of processor time), "
              f"{memory} MiB resident; one file edited, to in force: median {times[5]:.0f} ms, max {times[-1]:.0f} ms "
              f"of {len(times)} ({each:.0f} ms of processor time)")
    finally:
        process.kill()
        process.wait()


def serve(folder, state):
    return subprocess.Popen([BINARY, "serve", "-f", folder, "--bind", "127.0.0.1", "--admin", ADMIN,
                             "--state-dir", state, "--no-access-log"], stderr=subprocess.DEVNULL)


def main():
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as state:
        many(folder, state)
    servers = [start_server(port) for port in SERVERS]
    gateway = None
    try:
        with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as state:
            write(folder, 1)
            gateway = serve(folder, state)
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
