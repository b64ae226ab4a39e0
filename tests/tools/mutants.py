#!/usr/bin/env python3
"""Mutation testing by a random sample: which changes to the code does no test detect?

    tests/tools/mutants.py [--seed N] [--count N] [--from N] [--path PREFIX]... [--core | --chaos] [--list]

Draws COUNT of the mutants that `cargo mutants --list` lists (.cargo/mutants.toml selects the files), by the seed, and tries
each in a copy of the last commit: first with the core's tests without chaos, which build and run quickly. The
survivors meet chaos and the other unit, engine and integration tests, those of the same parts first. Prints a line for
each mutant, then the totals, and the missed mutants with their change. With --chaos, only the simulator's chaos test is
tried.

A mutant that does not compile is unviable and does not count. One that makes a test run without end is caught.
The exit status is 0 when at least 95 % of the viable ones are caught (60 % with --chaos).
"""

import argparse
import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
WORK = ROOT / "target" / "mutants"
TREE = WORK / "tree"
ENVIRONMENT = dict(
    os.environ,
    CARGO_TARGET_DIR=str(WORK / "target"),
    CARGO_PROFILE_DEV_DEBUG="none",
    CARGO_INCREMENTAL="1",
    CARGO_TERM_COLOR="never",
    RUST_BACKTRACE="0",
)
CORE = ["--no-default-features", "--lib"]
FULL = ["--lib", "--bins", "--test", "main"]
# Tests that are likely to detect a mutant, tried before all others.
NEAR = ["vrrp::", "check::", "plan::", "track::", "sim::", "drive::", "kernel::", "reload"]
# Extra time that a test may take with a mutant, in seconds, in addition to a multiple of its own time.
PATIENCE = 60


def end(session):
    """Ends a command and everything that it started: nextest gives each test a process group of its own."""
    for _ in range(10):
        left = False
        for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
            try:
                # The name, in parentheses, may contain any character.
                state, _, _, owner = stat.read_text(errors="replace").rpartition(")")[2].split()[:4]
                if int(owner) == session and state != "Z":
                    os.kill(int(stat.parent.name), signal.SIGKILL)
                    left = True
            except (OSError, ValueError):
                pass
        if not left:
            break


def run(command, limit):
    """Status (None: out of time) and output of a command and of everything that it starts."""
    process = subprocess.Popen(
        command,
        cwd=TREE,
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=limit)
        return process.returncode, output
    except subprocess.TimeoutExpired:
        end(process.pid)
        output, _ = process.communicate()
        return None, output
    except BaseException:
        end(process.pid)
        raise


class Stage:
    """Some tests: how to build and to run them, and how long that takes when nothing is changed."""

    def __init__(self, name, targets, names=(), without=None):
        self.name = name
        self.build = ["cargo", "test", "--quiet", "--no-run", *targets]
        has_nextest = subprocess.run(["cargo", "nextest", "--version"], capture_output=True).returncode == 0
        if has_nextest:
            quiet = ["--cargo-quiet", "--status-level", "fail", "--final-status-level", "none"]
            others = ["-E", f"not test({without})"] if without else []
            self.test = ["cargo", "nextest", "run", "--fail-fast", *quiet, *targets, *others, *names]
        else:
            others = ["--skip", without] if without else []
            self.test = ["cargo", "test", "--quiet", *targets, "--", *others, *names]
        self.limit = 1200.0

    def baseline(self):
        """Checks that everything passes without a change; otherwise results would be meaningless."""
        for command in (self.build, self.test):
            started = time.monotonic()
            status, output = run(command, self.limit)
            if status != 0:
                sys.exit(f"{output}\nwithout a change: {' '.join(command)}: {status}")
        took = time.monotonic() - started
        self.limit = 4 * took + PATIENCE
        print(f"without a change: {self.name}: {took:.0f} s", flush=True)

    def verdict(self):
        """unviable, missed, or caught and by which test."""
        status, output = run(self.build, 1200)
        if status != 0:
            return "unviable", first_error(output)
        status, output = run(self.test, self.limit)
        if status is None:
            return "caught", f"{self.name}: no end"
        if status == 0:
            return "missed", ""
        return "caught", f"{self.name}: {failed_test(output)}"


def failed_test(output):
    found = re.search(r"^\s*(?:FAIL|SIGABRT|TIMEOUT|SIGSEGV)\s+\[.*?\]\s+(?:\(.*?\)\s+)?(.*)$", output, re.M)
    found = found or re.search(r"^---- (\S+) stdout", output, re.M)
    return found.group(1).strip() if found else "failed"


def first_error(output):
    found = re.search(r"^error.*$", output, re.M)
    return found.group(0) if found else ""


def mutants(paths):
    listed = subprocess.run(
        ["cargo", "mutants", "--list", "--json", "--diff"], cwd=ROOT, capture_output=True, text=True
    )
    if listed.returncode != 0:
        sys.exit(listed.stderr or "cargo mutants: cargo install cargo-mutants")
    wanted = lambda mutant: not paths or any(mutant["file"].startswith(path) for path in paths)
    return [mutant for mutant in json.loads(listed.stdout) if wanted(mutant)]


def copy_of_the_last_commit():
    WORK.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(TREE, ignore_errors=True)
    TREE.mkdir()
    archive = subprocess.Popen(["git", "archive", "HEAD"], cwd=ROOT, stdout=subprocess.PIPE)
    subprocess.run(["tar", "-x", "-C", TREE], stdin=archive.stdout, check=True)
    if archive.wait() != 0:
        sys.exit("git archive failed")


def mutated(text, mutant):
    """The text with the mutant's span replaced. Columns count characters, from 1."""
    lines = text.splitlines(keepends=True)
    offset = lambda at: sum(len(line) for line in lines[: at["line"] - 1]) + at["column"] - 1
    start, end = offset(mutant["span"]["start"]), offset(mutant["span"]["end"])
    return f"{text[:start]}{mutant['replacement']}{text[end:]}"


def attempt(mutant, stages):
    path = TREE / mutant["file"]
    original = path.read_text()
    path.write_text(mutated(original, mutant))
    try:
        for stage in stages:
            outcome, why = stage.verdict()
            if outcome != "missed":
                break
        return outcome, why
    finally:
        path.write_text(original)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--path", action="append", default=[], help="only files whose path begins with this")
    parser.add_argument("--chaos", action="store_true", help="only the simulator's chaos")
    parser.add_argument("--core", action="store_true", help="only the core's tests: quick, and finds most holes")
    parser.add_argument("--from", type=int, default=1, dest="first", help="begin with this one of those drawn")
    parser.add_argument("--list", action="store_true", help="only print what is drawn")
    options = parser.parse_args()
    paths = options.path or (["src/vrrp/"] if options.chaos else [])
    everything = sorted(mutants(paths), key=lambda mutant: mutant["name"])
    count = min(options.count, len(everything))
    drawn = random.Random(options.seed).sample(everything, count)
    print(f"seed {options.seed}: {count} of {len(everything)} mutants, "
          f"commit {subprocess.check_output(['git', 'rev-parse', '--short', 'HEAD'], cwd=ROOT, text=True).strip()}")
    if options.list:
        print("\n".join(mutant["name"] for mutant in drawn))
        return 0
    copy_of_the_last_commit()
    if options.chaos:
        # The chaos tests do not use the configuration language; without it each build takes a third of the time.
        library = TREE / "src" / "lib.rs"
        library.write_text(library.read_text().replace("pub mod config;\n", ""))
        stages = [Stage("chaos", CORE, ["chaos_breaks_nothing"])]
    else:
        # The chaos tests take ten times as long as all other tests of the core together: only mutants that survive those
        # reach them.
        stages = [Stage("core", CORE, without="chaos_breaks_nothing"), Stage("near", FULL, NEAR), Stage("all", FULL)]
        if options.core:
            stages = stages[:1]
    for stage in stages:
        stage.baseline()
    results = []
    for number, mutant in list(enumerate(drawn, 1))[options.first - 1 :]:
        started = time.monotonic()
        outcome, why = attempt(mutant, stages)
        results.append((outcome, why, mutant))
        took = time.monotonic() - started
        print(f"{number:4} {outcome:8} {took:4.0f} s  {mutant['name']}  {why}".rstrip(), flush=True)
    count_of = lambda outcome: sum(1 for result in results if result[0] == outcome)
    for outcome, _, mutant in results:
        if outcome == "missed":
            print(f"\nmissed: {mutant['name']}\n{mutant['diff']}")
    caught, missed = count_of("caught"), count_of("missed")
    by_core = sum(1 for result in results if result[1].startswith("core:"))
    share = 100 * caught / max(1, caught + missed)
    print(f"seed {options.seed}: {caught} caught ({by_core} by the core's tests alone), {missed} missed, "
          f"{count_of('unviable')} unviable: {share:.1f} % of the viable ones are caught")
    return 0 if share >= (60 if options.chaos else 95) else 1


if __name__ == "__main__":
    sys.exit(main())
