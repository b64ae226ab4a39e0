#!/usr/bin/env python3
"""Mutation testing by a random sample: which changes to the code does no test detect?

    tests/tools/mutants.py [--seed N] [--count N] [--from N] [--only N,N..] [--path PREFIX]... [--core | --chaos] [--seeds N]
                           [--list]

Draws COUNT of the mutants that `cargo mutants --list` lists (.cargo/mutants.toml selects the files), by the seed, and tries
each in a copy of the last commit. Building takes most of the time, so all of them are built together: a changed function
has the body of each of its mutants, and the environment variable EVERVIP_MUTANT, a number, selects one when the tests run.
Those that this does not allow (a constant, a function that returns `impl Trait`) are built one at a time after that.

The quickest tests come first:

    core     the core's unit tests without the slow ones, built without the configuration language
    engines  tests/check without the OS part, for mutants outside of src/vrrp (first for those in src/check)
    slow     the core's slow unit tests: jobs in slices and budgets
    chaos    the simulator's chaos, for mutants outside of src/check
    near     unit and integration tests of the OS part about the same subject
    all      all other unit and integration tests

Prints a line for each mutant, then the totals, and the missed mutants with their change. --core leaves out the last two
stages. With --chaos, only the simulator's chaos test is tried. The chaos plays the seeds from 0 on, 200 or as --seeds says,
and stops at the first finding.

A mutant that does not compile is unviable and does not count. One whose tests use far more processor time than without a
change, or neither end nor use any, is caught ("no end"); one that is only slow, because the machine is busy, is not: it is
reported as unclear and counts as missed. A test of the last two stages that fails is run a second time alone, and only
counts if it fails again.
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
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
WORK = ROOT / "target" / "mutants"
TREE = WORK / "tree"
ENVIRONMENT = dict(
    os.environ,
    CARGO_TARGET_DIR=str(WORK / "target"),
    CARGO_INCREMENTAL="1",
    CARGO_TERM_COLOR="never",
    RUST_BACKTRACE="0",
)
# Optimised: their tests take longer than the build.
CORE = ["--config", "profile.dev.package.evervip.opt-level=1", "--no-default-features", "--lib"]
ENGINES = ["--no-default-features", "--test", "engines"]
# Tests of the core that take half of its time.
SLOW = ["vrrp::tests::jobs", "vrrp::tests::budget"]
# They count places in their own source text, of which a tree with several bodies of a function has more.
READERS = ["each_place_that_logs_for_others_is_limited"]
FULL = ["--lib", "--bins", "--test", "main", "--test", "allocations"]
CHAOS = "chaos_breaks_nothing"
# What a failed test prints, and the chaos of a seed with findings.
FAILURE = re.compile(r" \.\.\. FAILED\n|\bseed (\d+): \[")
# Tests that the stages before have run.
DONE = "(binary_id(evervip) & test(/^(vrrp|check|plan|track|sim|bfd|wire|base|model|status)::/)) | test(/^check::/)"
# Tests about the text of the source, which is not that of the project here.
TEXT = "test(/^arch::/) | test(/^config::layers::/)"
# Tests of the OS part that are likely to detect a mutant.
NEAR = "test(/^(drive|kernel|role)::/) | test(reload) | test(status)"
# Processor time that tests may take with a mutant, in seconds, in addition to a multiple of their own.
PATIENCE = 10
# Tests that use less than a tenth of a second of processor time in this many seconds wait for something that does not come.
IDLE = 120
# However busy the machine is, a command is ended after this many seconds.
LONGEST = 1800


def processes(session):
    """Ids and processor seconds of a command and of everything that it started: nextest gives each test a process group of
    its own."""
    tick = os.sysconf("SC_CLK_TCK")
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name, in parentheses, may contain any character.
            fields = stat.read_text(errors="replace").rpartition(")")[2].split()
            if int(fields[3]) == session and fields[0] != "Z":
                # Of itself and of children that have ended.
                yield int(stat.parent.name), sum(map(int, fields[11:15])) / tick
        except (OSError, ValueError, IndexError):
            pass


def end(session):
    for _ in range(10):
        left = list(processes(session))
        for process, _ in left:
            try:
                os.kill(process, signal.SIGKILL)
            except OSError:
                pass
        if not left:
            break


def run(command, limit=None, mutant=0):
    """Status, output and processor seconds of a command and of everything that it starts. The status is "no end" if it took
    more processor seconds than `limit` or stopped using any, and "unclear" if it was only slow."""
    with tempfile.TemporaryFile("w+", errors="replace") as output:
        process = subprocess.Popen(
            command,
            cwd=TREE,
            env=dict(ENVIRONMENT, EVERVIP_MUTANT=str(mutant)),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        started = time.monotonic()
        used, at, worked = 0.0, 0.0, started
        try:
            while True:
                try:
                    status = process.wait(timeout=0.2)
                    break
                except subprocess.TimeoutExpired:
                    pass
                # One failure is enough, and one seed of the chaos.
                if FAILURE.search(pathlib.Path(f"/proc/self/fd/{output.fileno()}").read_text(errors="replace")):
                    status = 101
                    break
                now = time.monotonic()
                used = max(used, sum(seconds for _, seconds in processes(process.pid)))
                if used >= at + 0.1:
                    at, worked = used, now
                if limit and (used > limit or now - worked > IDLE):
                    status = "no end"
                elif now - started > LONGEST:
                    status = "unclear"
                else:
                    continue
                break
        finally:
            end(process.pid)
            process.wait()
        output.seek(0)
        return status, output.read(), used


class Stage:
    """Some tests: how to build and to run them, and the processor time they take when nothing is changed."""

    def __init__(self, name, targets):
        self.name = name
        self.build = ["cargo", "test", "--quiet", "--no-run", *targets]
        self.limit = None

    def test(self):
        raise NotImplementedError

    def is_certain(self, failed, mutant):
        """Whether the failure of a test is no accident."""
        return True

    def baseline(self):
        """Checks that everything passes without a change; otherwise results would be meaningless."""
        started = time.monotonic()
        for command in (lambda: self.build, self.test):
            command = command()
            status, output, used = run(command)
            if status != 0:
                sys.exit(f"{output}\nwithout a change: {' '.join(command)}: {status}")
        self.limit = 8 * used + PATIENCE
        took = time.monotonic() - started
        print(f"without a change: {self.name}: {used:.0f} s of processor time, {took:.0f} s with the build", flush=True)

    def verdict(self, mutant):
        """missed, or caught and by which test. `mutant` is a number, or 0 for the code as it is, which may need a build."""
        if mutant == 0:
            status, output, _ = run(self.build)
            if status == "unclear":
                return "unclear", f"{self.name}: the build was too slow"
            if status != 0:
                return "unviable", first_error(output)
        status, output, _ = run(self.test(), self.limit, mutant)
        if status == 0:
            return "missed", ""
        if status == "unclear":
            return "unclear", f"{self.name}: too slow"
        if status == "no end":
            return "caught", f"{self.name}: no end"
        failed = failed_test(output)
        if not self.is_certain(failed, mutant):
            return "missed", f"{self.name}: {failed} failed once"
        return "caught", f"{self.name}: {failed}"


class Quick(Stage):
    """Tests of the core, all in one process: they depend on nothing but the code."""

    def __init__(self, name, targets, *options):
        super().__init__(name, targets)
        self.options = options
        self.program = None

    def test(self):
        if self.program is None:
            status, output, _ = run([*self.build, "--message-format=json"])
            made = (json.loads(line) for line in output.splitlines() if line.startswith("{"))
            self.program = [m["executable"] for m in made if m.get("executable") and m["profile"]["test"]][-1]
        return [self.program, *self.options]


class Whole(Stage):
    """Tests of the OS part, each in a process of its own. They can fail by accident on a busy machine."""

    def __init__(self, name, targets, tests):
        super().__init__(name, targets)
        quiet = ["--cargo-quiet", "--status-level", "fail", "--final-status-level", "none"]
        self.command = ["cargo", "nextest", "run", *quiet, *targets]
        self.tests = tests

    def test(self):
        return [*self.command, "--fail-fast", "-E", self.tests]

    def is_certain(self, failed, mutant):
        status, _, _ = run([*self.command, "-E", f"test(={failed.split()[-1]})"], self.limit, mutant)
        return status != 0


def failed_test(output):
    found = re.search(r"^\s*(?:FAIL|SIGABRT|TIMEOUT|SIGSEGV)\s+\[.*?\]\s+(?:\(.*?\)\s+)?(.*)$", output, re.M)
    found = found or re.search(r"^test (\S+) \.\.\. FAILED$", output, re.M)
    if found is None and (seed := re.search(r"\bseed (\d+): \[", output)):
        return f"{CHAOS}, seed {seed.group(1)}"
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


SELECTOR = """
/// The number of the mutant to be; 0 for none.
#[doc(hidden)]
pub fn mutant() -> u32 {
    static NUMBER: std::sync::OnceLock<u32> = std::sync::OnceLock::new();
    *NUMBER.get_or_init(|| {
        let number = std::env::var("EVERVIP_MUTANT").ok();
        number.and_then(|number| number.parse().ok()).unwrap_or(0)
    })
}
"""


def copy_of_the_last_commit():
    """The files, and what makes the core's stages quick: they do not need the configuration language."""
    shutil.rmtree(TREE, ignore_errors=True)
    TREE.mkdir(parents=True)
    archive = subprocess.Popen(["git", "archive", "HEAD"], cwd=ROOT, stdout=subprocess.PIPE)
    subprocess.run(["tar", "-x", "-C", TREE], stdin=archive.stdout, check=True)
    if archive.wait() != 0:
        sys.exit("git archive failed")
    library = TREE / "src" / "lib.rs"
    text = library.read_text().replace("pub mod config;", '#[cfg(feature = "daemon")]\npub mod config;')
    library.write_text(text + SELECTOR)
    with open(TREE / "Cargo.toml", "a") as manifest:
        # Of this package alone, so that dependencies that are already built can be copied.
        manifest.write('\n[profile.dev.package.evervip]\ndebug = false\n')
    engines = TREE / "tests" / "engines.rs"
    engines.write_text(engines.read_text().replace("mod adverts;", '#[cfg(feature = "daemon")]\nmod adverts;'))


def offsets(text, span):
    """Start and end of a span in the text. Columns count characters, from 1."""
    lines = text.splitlines(keepends=True)
    at = lambda place: sum(len(line) for line in lines[: place["line"] - 1]) + place["column"] - 1
    return at(span["start"]), at(span["end"])


def mutated(text, mutant):
    """The text with the mutant's span replaced."""
    start, end = offsets(text, mutant["span"])
    return f"{text[:start]}{mutant['replacement']}{text[end:]}"


def woven(text, drawn):
    """The text with all these mutants, and its parts: first byte, end, the mutants, and whether it is the body of one."""
    functions = {}
    for number, mutant in drawn:
        start, end = offsets(text, mutant["function"]["span"])
        # A function within a function belongs to the outer one.
        outer = next((span for span in functions if span[0] <= start and end <= span[1]), None)
        inner = [span for span in functions if start <= span[0] and span[1] <= end and span != (start, end)]
        members = functions.setdefault(outer or (start, end), [])
        members.append((number, mutant))
        for span in inner:
            members.extend(functions.pop(span))
    result, places, done = "", [], 0
    for (start, end), members in sorted(functions.items()):
        body = text.index("{", start)
        head = text[start:body]
        result += text[done:start]
        first = len(result.encode())
        result += re.sub(r"\bconst (?=(unsafe )?fn\b)", "", head) + "{ match crate::mutant() {\n"
        for number, mutant in members:
            inside, outside = offsets(text, mutant["span"])
            arm = len(result.encode())
            result += f"{number} => {text[body:inside]}{mutant['replacement']}{text[outside:end]}\n"
            places.append((arm, len(result.encode()), [number], True))
        result += f"_ => {text[body:end]} }} }}"
        # Errors elsewhere in the function: all of them.
        places.append((first, len(result.encode()), [number for number, _ in members], False))
        done = end
    return result + text[done:], places


def weave(drawn):
    """Writes all mutants into the tree that can be built together. Returns those, those that do not compile with the error,
    the others, and the original files."""
    originals = {mutant["file"]: (TREE / mutant["file"]).read_text() for _, mutant in drawn}
    together = {number: mutant for number, mutant in drawn if mutant.get("function")}
    check = ["cargo", "check", "--quiet", "--no-default-features", "--lib", "--message-format=json"]
    unviable = {}
    for _ in range(20):
        places = {}
        for name, text in originals.items():
            here = [(number, mutant) for number, mutant in together.items() if mutant["file"] == name]
            text, places[name] = woven(text, here)
            (TREE / name).write_text(text)
        status, output, _ = run(check)
        if status == 0:
            break
        refused = set()
        for line in output.splitlines():
            message = json.loads(line).get("message") if line.startswith("{") else None
            for span in (message or {}).get("spans", []):
                if message["level"] == "error" and span["is_primary"]:
                    hit = (p for p in places.get(span["file_name"], []) if p[0] <= span["byte_start"] < p[1])
                    _, _, found, is_body = next(hit, (0, 0, [], False))
                    refused.update(found)
                    # Two bodies of a function that returns `impl Trait` are of two types; other errors are its own.
                    if is_body and "impl " not in together[found[0]]["function"]["return_type"]:
                        unviable.setdefault(found[0], f"error: {message['message']}")
        # A constant needs a function that is no longer constant.
        called = {name.split("::")[-1] for name in re.findall(r"non-const \w+ `([\w:<>]+)`", output)}
        refused.update(number for number, mutant in together.items()
                       if mutant["function"]["function_name"].split("::")[-1] in called)
        if not refused:
            sys.exit(f"{output}\nthe mutants cannot be built together")
        for number in refused:
            together.pop(number, None)
    alone = [pair for pair in drawn if pair[0] not in together and pair[0] not in unviable]
    return [pair for pair in drawn if pair[0] in together], unviable, alone, originals


def attempt(number, stages):
    for stage in stages:
        outcome, why = stage.verdict(number)
        if outcome != "missed":
            break
    return outcome, why


def attempt_alone(mutant, stages):
    path = TREE / mutant["file"]
    original = path.read_text()
    path.write_text(mutated(original, mutant))
    try:
        status, output, _ = run(["cargo", "check", "--quiet", "--no-default-features", "--lib"])
        return attempt(0, stages) if status == 0 else ("unviable", first_error(output))
    finally:
        path.write_text(original)


def stages_for(path, stages):
    """The stages that a mutant in this file goes through, in their order."""
    names = list(stages)
    if path.startswith("src/vrrp/"):
        names = [name for name in names if name != "engines"]
    if path.startswith("src/check/"):
        names = [name for name in names if name not in ("slow", "chaos")]
        names.sort(key=lambda name: name != "engines")
    return [stages[name] for name in names]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--path", action="append", default=[], help="only files whose path begins with this")
    parser.add_argument("--chaos", action="store_true", help="only the simulator's chaos")
    parser.add_argument("--core", action="store_true", help="only the core's tests: quick, and finds most holes")
    parser.add_argument("--seeds", type=int, default=200, help="seeds that the chaos plays")
    parser.add_argument("--from", type=int, default=1, dest="first", help="begin with this one of those drawn")
    parser.add_argument("--only", default="", help="only these of those drawn, as in 3,17,40")
    parser.add_argument("--list", action="store_true", help="only print what is drawn")
    options = parser.parse_args()
    ENVIRONMENT["EVERVIP_SEEDS"] = str(options.seeds)
    paths = options.path or (["src/vrrp/"] if options.chaos else [])
    everything = sorted(mutants(paths), key=lambda mutant: mutant["name"])
    count = min(options.count, len(everything))
    drawn = list(enumerate(random.Random(options.seed).sample(everything, count), 1))
    print(f"seed {options.seed}: {count} of {len(everything)} mutants, "
          f"commit {subprocess.check_output(['git', 'rev-parse', '--short', 'HEAD'], cwd=ROOT, text=True).strip()}", flush=True)
    drawn = drawn[options.first - 1 :]
    if options.only:
        chosen = set(map(int, options.only.split(",")))
        drawn = [(number, mutant) for number, mutant in drawn if number in chosen]
    if options.list:
        print("\n".join(f"{number:4} {mutant['name']}" for number, mutant in drawn))
        return 0
    stages = {
        "core": Quick("core", CORE, *(word for name in (CHAOS, *SLOW, *READERS) for word in ("--skip", name))),
        "engines": Quick("engines", ENGINES),
        "slow": Quick("slow", CORE, *SLOW),
        "chaos": Quick("chaos", CORE, CHAOS, "--nocapture"),
        "near": Whole("near", FULL, f"({NEAR}) - ({DONE}) - ({TEXT})"),
        "all": Whole("all", FULL, f"all() - ({DONE}) - ({NEAR}) - ({TEXT})"),
    }
    if not (options.core or options.chaos) and shutil.which("cargo-nextest") is None:
        sys.exit("cargo nextest is missing: cargo install cargo-nextest, or --core")
    kept = {"chaos"} if options.chaos else {"core", "engines", "slow", "chaos"} if options.core else set(stages)
    stages = {name: stage for name, stage in stages.items() if name in kept}
    copy_of_the_last_commit()
    together, unviable, alone, originals = weave(drawn)
    print(f"{len(together)} of them are built together", flush=True)
    for stage in stages.values():
        stage.baseline()
    results = []

    def record(number, mutant, attempted):
        started = time.monotonic()
        outcome, why = attempted()
        results.append((outcome, why, mutant))
        took = time.monotonic() - started
        print(f"{number:4} {outcome:8} {took:4.0f} s  {mutant['name']}  {why}".rstrip(), flush=True)

    for number, mutant in drawn:
        if number in unviable:
            record(number, mutant, lambda: ("unviable", unviable[number]))
    for number, mutant in together:
        record(number, mutant, lambda: attempt(number, stages_for(mutant["file"], stages)))
    for name, text in originals.items():
        (TREE / name).write_text(text)
    for number, mutant in alone:
        record(number, mutant, lambda: attempt_alone(mutant, stages_for(mutant["file"], stages)))
    count_of = lambda outcome: sum(1 for result in results if result[0] == outcome)
    for outcome, _, mutant in results:
        if outcome in ("missed", "unclear"):
            print(f"\n{outcome}: {mutant['name']}\n{mutant['diff']}")
    caught, missed = count_of("caught"), count_of("missed") + count_of("unclear")
    by_stage = ", ".join(f"{sum(1 for _, why, _ in results if why.startswith(name + ':'))} by {name}" for name in stages)
    endless = sum(1 for outcome, why, _ in results if outcome == "caught" and why.endswith(": no end"))
    share = 100 * caught / max(1, caught + missed)
    print(f"seed {options.seed}: {caught} caught ({by_stage}; {endless} of them without end), {missed} missed "
          f"({count_of('unclear')} of them unclear), {count_of('unviable')} unviable: {share:.1f} % of the viable ones are caught")
    return 0 if share >= (60 if options.chaos else 95) else 1


if __name__ == "__main__":
    sys.exit(main())
