"""How long a roll-out takes to turn back, from the first request that a candidate fails to the last that reaches it, and
what clients see of it. Standard library only.

    python3 bench/rollback.py [BINARY] [RUNS]        (default target/release/tidegate, 20)

Each run: two simulated model servers, clients without a pause, a roll-out to 50 %; then the candidate fails every
request (or is killed, every second run). The times are those of the gateway's own access log.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from datetime import datetime

BINARY = sys.argv[1] if len(sys.argv) > 1 else "target/release/tidegate"
RUNS = int(sys.argv[2]) if len(sys.argv) > 2 else 20
SERVERS, LISTEN, ADMIN = {"old": 18111, "new": 18112}, 18090, "127.0.0.1:18098"
CLIENTS, LIMIT = 8, 30.0
GROUP = "inference.networking.k8s.io"


def start_server(name, port):
    command = [BINARY, "sim", "--port", str(port), "--served-model-name", "m", "--name", name, "--speed", "20"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    server.stdout.readline()  # it says where it listens when it is ready
    return server


def documents():
    backends = [{"group": GROUP, "kind": "InferencePool", "name": name, "weight": weight}
                for name, weight in (("old", 1), ("new", 0))]
    yield {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": "g"},
           "spec": {"gatewayClassName": "t", "listeners": [{"name": "h", "protocol": "HTTP", "port": LISTEN}]}}
    yield {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "r"},
           "spec": {"parentRefs": [{"name": "g"}], "rules": [{"backendRefs": backends}]}}
    for name, port in SERVERS.items():
        yield {"apiVersion": GROUP + "/v1", "kind": "InferencePool", "metadata": {"name": name},
               "spec": {"selector": {"matchLabels": {"app": name}}, "targetPorts": [{"number": 8000}]}}
        yield {"apiVersion": "tidegate.dev/v1alpha1", "kind": "ModelServer",
               "metadata": {"name": name, "labels": {"app": name}}, "spec": {"address": f"127.0.0.1:{port}"}}
    yield {"apiVersion": "tidegate.dev/v1alpha1", "kind": "InferenceRollout", "metadata": {"name": "release"},
           "spec": {"type": "Node", "target": {"routeRef": {"name": "r"}}, "stable": {"poolRef": {"name": "old"}},
                    "candidate": {"poolRef": {"name": "new"}},
                    "steps": [{"weight": 50, "bake": "1h"}, {"weight": 100, "bake": "1h"}]}}


def phase():
    try:
        answer = urllib.request.urlopen(f"http://{ADMIN}/rollouts/default/release", timeout=5)
        return json.load(answer).get("status", {}).get("phase")
    except OSError:
        return None


def wait_for(wanted):
    end = time.monotonic() + LIMIT
    while (now := phase()) != wanted:
        if time.monotonic() > end:
            raise SystemExit(f"the roll-out is {now}, not {wanted}, after {LIMIT:.0f} s")
        time.sleep(0.02)


def client(number, stop, seen):
    body = json.dumps({"model": "m", "max_tokens": 4, "stream": number % 2 == 0,
                       "messages": [{"role": "user", "content": "hi"}]}).encode()
    turn = 0
    while not stop.is_set():
        turn += 1
        request = urllib.request.Request(f"http://127.0.0.1:{LISTEN}/v1/chat/completions", data=body, headers={
            "content-type": "application/json", "x-session-id": f"{number}-{turn // 4}"})
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                text = answer.read()
                whole = b"[DONE]" in text if number % 2 == 0 else text.rstrip().endswith(b"}")
                seen.append("whole" if whole else "broken off")
        except urllib.error.HTTPError as error:
            seen.append(f"status {error.code}")
        except Exception as error:  # noqa: BLE001 - whatever a client meets is counted
            seen.append("broken off" if "IncompleteRead" in repr(error) else repr(error))


def moment(line):
    started = datetime.fromisoformat(line["time"]).timestamp()
    return started, started + line["duration_ms"] / 1000


def run(kill):
    servers = {name: start_server(name, port) for name, port in SERVERS.items()}
    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, "all.yaml"), "w") as file:
            file.write("\n---\n".join(map(json.dumps, documents())))
        log = os.path.join(folder, "access.log")
        stop, seen = threading.Event(), []
        threads = [threading.Thread(target=client, args=(n, stop, seen)) for n in range(CLIENTS)]
        with open(log, "w") as output, open(os.path.join(folder, "stderr"), "w") as errors:
            gateway = subprocess.Popen([BINARY, "serve", "-f", os.path.join(folder, "all.yaml"), "--bind", "127.0.0.1",
                                        "--admin", ADMIN, "--state-dir", os.path.join(folder, "state")],
                                       stdout=output, stderr=errors)
            try:
                wait_for("Preflight")
                for thread in threads:
                    thread.start()
                wait_for("Progressing")
                time.sleep(0.5)
                seen_before = len(seen)
                if kill:
                    servers["new"].kill()
                else:
                    faults = json.dumps({"error_rate": 1.0}).encode()
                    urllib.request.urlopen(urllib.request.Request(
                        f"http://127.0.0.1:{SERVERS['new']}/sim/faults", data=faults,
                        headers={"content-type": "application/json"})).read()
                wait_for("RolledBack")
                time.sleep(0.3)
            finally:
                stop.set()
                for thread in threads:
                    if thread.ident:
                        thread.join()
                gateway.terminate()
                gateway.wait()
                for server in servers.values():
                    server.kill()
                    server.wait()
        with open(log) as file:
            lines = [json.loads(line) for line in file if line.startswith("{")]
    candidate = [line for line in lines if line.get("rollout_arm") == "candidate"]
    failed = [line for line in candidate if line.get("shielded")]
    if not failed:
        raise SystemExit("no request failed on the candidate")
    began = min(moment(line)[0] for line in failed)
    last = max(moment(line)[0] for line in candidate)
    return last - began, len(failed), seen[seen_before:]


def main():
    rows = {"error": [], "kill": []}
    outcomes = {"error": {}, "kill": {}}
    for number in range(RUNS):
        kind = "kill" if number % 2 else "error"
        seconds, failed, seen = run(kind == "kill")
        rows[kind].append((seconds, failed))
        for outcome in seen:
            outcomes[kind][outcome] = outcomes[kind].get(outcome, 0) + 1
    print("| candidate | runs | first failure to last candidate request: median | max | failed attempts, shielded: median | clients saw |")
    print("|---|---:|---:|---:|---:|---|")
    for kind, name in (("error", "answers 500"), ("kill", "is killed")):
        if not rows[kind]:
            continue
        times = sorted(row[0] for row in rows[kind])
        failures = sorted(row[1] for row in rows[kind])
        middle = len(times) // 2
        said = ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes[kind].items()))
        print(f"| {name} | {len(times)} | {times[middle] * 1000:.0f} ms | {times[-1] * 1000:.0f} ms "
              f"| {failures[middle]} | {said} |")


if __name__ == "__main__":
    main()
