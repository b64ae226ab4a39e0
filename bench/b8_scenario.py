#!/usr/bin/env python3
"""8. The failover scenario with its own files, idle: memory, CPU time and context switches of all processes together, with
one node alone and with both (which share pages); the first advert over the protocol's floor."""

from kab import *

EXAMPLES = os.path.join(os.path.dirname(HERE), "etc", "examples")
FILES = {"n1": ("failover-primary.conf", "10.0.0.71"), "n2": ("failover-backup.conf", "10.0.0.72")}

# Wait of the primary before its first advert: 3 x 1 s and a skew of (256 - 200) / 256 s.
START_FLOOR_MS = 3e3 + (256 - 200) / 256 * 1e3


def switches(daemon):
    """Context switches of all threads so far, voluntary and not."""
    total = 0
    for pid in daemon.pids():
        for status in glob.glob("/proc/%d/task/*/status" % pid):
            with contextlib.suppress(OSError):
                total += sum(int(x) for x in re.findall(r"ctxt_switches:\s+(\d+)", open(status).read()))
    return total


def rename(net, host):
    """The interface and the address that the files of the scenario expect."""
    batch = "link set eth0 down\nlink set eth0 name enp0s8\naddr flush dev enp0s8\naddr add %s/24 dev enp0s8\nlink set enp0s8 up\n"
    sh(["ip", "-n", net.ns[host], "-batch", "-"], input=batch % FILES[host][1])


def measure(results, case, name, daemons, secs):
    cpu, wakes, start = [d.cpu_ns() for d in daemons], [switches(d) for d in daemons], time.monotonic()
    time.sleep(secs)
    took = time.monotonic() - start
    results.add(case, "CPU", name, sum(d.cpu_ns() - c for d, c in zip(daemons, cpu)) / took / 1e6, "ms/s")
    results.add(
        case, "context switches", name, sum(switches(d) - w for d, w in zip(daemons, wakes)) / took, "1/s"
    )
    results.add(case, "processes", name, sum(len(d.pids()) for d in daemons))
    memory = [d.mem_kb() for d in daemons]
    for metric, values in zip(("RSS", "PSS", "private dirty"), zip(*memory)):
        results.add(case, metric, name, sum(values), "KiB")


def main():
    a = args(
        lambda ap: ap.add_argument("--secs", type=float, default=5, help="length of the idle window"), runs=3
    )
    results = Results(a, "scenario")
    texts = {host: open(os.path.join(EXAMPLES, file)).read() for host, (file, _) in FILES.items()}
    net = Net(1)
    for host in FILES:
        rename(net, host)
    for run in range(a.runs):
        for name, command in a.daemons:
            sniff = Sniff(net.ns["obs"], "eth0", arp=False)
            primary = Daemon(command, texts["n1"], net.ns["n1"], "m")
            time.sleep(START_FLOOR_MS / 1e3 + 1.5)
            adverts = [p for p in sniff.drain() if p[1] == "vrrp"]
            sniff.close()
            if adverts:
                results.add(
                    "start",
                    "exec to first advert, over the floor of %g ms" % START_FLOOR_MS,
                    name,
                    (adverts[0][0] - primary.t0) / 1e6 - START_FLOOR_MS,
                    "ms",
                )
            else:
                print("no advert:", name, primary.logs()[-500:], file=sys.stderr)
            measure(results, "one node, idle", name, [primary], a.secs)
            backup = Daemon(command, texts["n2"], net.ns["n2"], "b")
            time.sleep(2)
            measure(results, "two nodes, idle", name, [primary, backup], a.secs)
            for daemon in (backup, primary):
                daemon.term()
    results.table()


main()
