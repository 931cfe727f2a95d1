"""A LoRA roll-out on a real vLLM server: from the document to Completed while clients ask without a pause. Exits 1 when a
client met an error, a stream broke off, or a session saw both adapters after the end. Standard library only.

    python3 bench/real_vllm.py HOST:PORT [BINARY]        (default target/release/tidegate)

The server serves `mymodel` with the adapters travel-helper-v1 and travel-helper-v2, as ../shared/vllm/start.sh starts it.
Clients ask for `travel-helper`, a name that the manifests give to the first and the roll-out moves to the second.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

SERVER = sys.argv[1]
BINARY = sys.argv[2] if len(sys.argv) > 2 else "target/release/tidegate"
LISTEN, ADMIN, CLIENTS, LIMIT = 18091, "127.0.0.1:18097", 4, 600.0
GROUP = "inference.networking.k8s.io"


def documents(adapter):
    yield {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": "g"},
           "spec": {"gatewayClassName": "t", "listeners": [{"name": "h", "protocol": "HTTP", "port": LISTEN}]}}
    yield {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "r"},
           "spec": {"parentRefs": [{"name": "g"}],
                    "rules": [{"backendRefs": [{"group": GROUP, "kind": "InferencePool", "name": "p"}]}]}}
    yield {"apiVersion": GROUP + "/v1", "kind": "InferencePool", "metadata": {"name": "p"},
           "spec": {"selector": {"matchLabels": {"app": "p"}}, "targetPorts": [{"number": 8000}]}}
    yield {"apiVersion": "tidegate.dev/v1alpha1", "kind": "ModelServer",
           "metadata": {"name": "s", "labels": {"app": "p"}}, "spec": {"address": SERVER}}
    yield {"apiVersion": "llm-d.ai/v1alpha2", "kind": "InferenceModelRewrite", "metadata": {"name": "travel"},
           "spec": {"poolRef": {"name": "p"}, "rules": [{
               "matches": [{"model": {"value": "travel-helper"}}],
               "targets": [{"modelRewrite": adapter, "weight": 100}]}]}}
    yield {"apiVersion": "tidegate.dev/v1alpha1", "kind": "InferenceRollout", "metadata": {"name": "release"},
           "spec": {"type": "LoRA",
                    "target": {"model": "travel-helper", "poolRef": {"name": "p"}, "rewriteRef": {"name": "travel"}},
                    "stable": {"model": "travel-helper-v1"}, "candidate": {"model": "travel-helper-v2"},
                    "steps": [{"weight": 25, "bake": "5s"}, {"weight": 50, "bake": "5s"}, {"weight": 100, "bake": "5s"}],
                    # Few requests: a wide budget, or the harm of the next step could not be ruled out in minutes.
                    "analysis": {"harmBudget": "25pp", "guards": [{"metric": "error"}, {"metric": "abort"}]},
                    "drain": {"timeout": "30s", "minRetention": "1s"}}}


def write(path, adapter):
    with open(path + ".tmp~", "w") as file:
        file.write("\n---\n".join(map(json.dumps, documents(adapter))))
    os.rename(path + ".tmp~", path)


def status():
    try:
        return json.load(urllib.request.urlopen(f"http://{ADMIN}/rollouts/default/release", timeout=5)).get("status", {})
    except OSError:
        return {}


def wait_for(wanted):
    end, last = time.monotonic() + LIMIT, None
    while True:
        now = status()
        said = (now.get("phase"), (now.get("effectiveWeights") or {}).get("candidate"))
        if said != last:
            print(f"{time.strftime('%H:%M:%S')} {said[0]} candidate {said[1]} %: {now.get('message')}", flush=True)
            last = said
        if said[0] == wanted:
            return
        if said[0] in ("Failed", "RolledBack") or time.monotonic() > end:
            raise SystemExit(f"not {wanted}")
        time.sleep(0.2)


def client(number, stop, failures, sessions):
    turn = 0
    while not stop.is_set():
        turn += 1
        stream, session = turn % 2 == 0, f"{number}-{turn // 6}"
        body = json.dumps({"model": "travel-helper", "max_tokens": 12, "stream": stream,
                           "messages": [{"role": "user", "content": f"where to, {number}.{turn}?"}]}).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{LISTEN}/v1/chat/completions", data=body, headers={
            "content-type": "application/json", "x-session-id": session})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                text = answer.read().decode()
            first = text.split("\n", 1)[0].removeprefix("data: ") if stream else text
            if stream and "[DONE]" not in text:
                raise ValueError(f"broke off: {text[-200:]}")
            sessions.append((time.monotonic(), session, json.loads(first)["model"]))
        except Exception as error:  # noqa: BLE001 - whatever a client meets is a failure
            failures.append(repr(error))


def main():
    stop, failures, sessions = threading.Event(), [], []
    with tempfile.TemporaryDirectory() as folder:
        manifests = os.path.join(folder, "all.yaml")
        write(manifests, "travel-helper-v1")
        with open(os.path.join(folder, "stderr"), "w") as errors:
            gateway = subprocess.Popen([BINARY, "serve", "-f", manifests, "--bind", "127.0.0.1", "--admin", ADMIN,
                                        "--state-dir", os.path.join(folder, "state"), "--no-access-log"], stderr=errors)
        threads = [threading.Thread(target=client, args=(n, stop, failures, sessions)) for n in range(CLIENTS)]
        try:
            while not status():
                time.sleep(0.1)
            for thread in threads:
                thread.start()
            wait_for("Settling")
            settled = time.monotonic()
            write(manifests, "travel-helper-v2")
            wait_for("Completed")
            time.sleep(3)
        finally:
            stop.set()
            for thread in threads:
                if thread.ident:
                    thread.join()
            gateway.terminate()
            gateway.wait()
    after = {model for at, _, model in sessions if at > settled + 1}
    models = {}
    for _, _, model in sessions:
        models[model] = models.get(model, 0) + 1
    print(f"{len(sessions)} answers {models}, {len(failures)} failures, after settling only {sorted(after)}")
    if failures or after != {"travel-helper-v2"}:
        print(failures[:3])
        raise SystemExit(1)


if __name__ == "__main__":
    main()
