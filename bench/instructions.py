#!/usr/bin/env python3
"""Instructions that a small request costs the gateway, by function. They do not depend on what else the machine does.

    python3 bench/instructions.py [FOLDER] [--lines N] [--of FUNCTION]

FOLDER holds `tidegate` and `tidegate-bench` (default target/release). Needs valgrind. With --of, what the functions whose
names hold FUNCTION call, and how often. Numbers are per request: of the function alone, then with all it calls.
"""
import argparse
import collections
import glob
import os
import re
import subprocess
import sys
import tempfile

# One call a request: what the counts are divided by.
ONCE = re.compile(r"tidegate_http1::request::write_head(\W|$)")


def run(folder, scratch):
    """The cost benchmark with the gateway under callgrind; gives the dumps after the first, which holds the start."""
    wrapper = os.path.join(scratch, "tidegate")
    with open(wrapper, "w") as out:
        out.write(
            "#!/bin/sh\nexec valgrind --tool=callgrind --callgrind-out-file=%s/dump.%%p --dump-every-bb=25000000 "
            '--compress-strings=no --compress-pos=no %s/tidegate "$@"\n' % (scratch, os.path.abspath(folder))
        )
    os.chmod(wrapper, 0o755)
    command = [os.path.join(folder, "tidegate-bench"), "cost", "--tidegate", wrapper, "--without-haproxy"]
    command += ["--rounds", "1", "--small", "12000", "--large", "10", "--single", "10"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return [dump for dump in glob.glob(scratch + "/dump.*.*") if int(dump.rsplit(".", 1)[1]) > 1]


def read(dumps):
    """Own cost by function, and cost and count by caller and callee."""
    own, cost, count = collections.Counter(), collections.Counter(), collections.Counter()
    for dump in dumps:
        function = callee = None
        calls = None
        for line in open(dump, errors="replace"):
            line = line.rstrip("\n")
            if line.startswith("fn="):
                function = line[3:]
            elif line.startswith("cfn="):
                callee = line[4:]
            elif line.startswith("calls="):
                calls = int(line[6:].split()[0])
            elif line[:1].isdigit() or line[:1] in ("+", "-", "*"):
                spent = int(line.split()[1])
                if calls is None:
                    own[function] += spent
                else:
                    cost[function, callee] += spent
                    count[function, callee] += calls
                    calls = None
    return own, cost, count


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", default="target/release")
    parser.add_argument("--lines", type=int, default=40)
    parser.add_argument("--of")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        own, cost, count = read(run(arguments.folder, scratch))
    requests = sum(calls for (_, callee), calls in count.items() if ONCE.search(callee))
    if not requests:
        sys.exit("no request was seen")
    print(f"{sum(own.values()) / requests:.0f} instructions a request, all threads ({requests} requests)")
    if arguments.of:
        for function in (name for name in own if arguments.of in name):
            print(f"\n{function}: {own[function] / requests:.0f} of its own")
            called = sorted((pair for pair in cost if pair[0] == function), key=cost.get, reverse=True)
            for pair in called[: arguments.lines]:
                print(f"{cost[pair] / requests:10.0f} in {count[pair] / requests:6.2f} calls of {pair[1][:120]}")
        return
    whole = collections.Counter()
    for (caller, callee), spent in cost.items():
        if caller != callee:
            whole[callee] += spent
    for title, counter in (("of its own", own), ("with all it calls", whole)):
        print(f"\n{title}")
        for function, spent in counter.most_common(arguments.lines):
            print(f"{spent / requests:10.0f} {function[:140]}")


if __name__ == "__main__":
    main()
