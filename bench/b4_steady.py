#!/usr/bin/env python3
"""4. Steady state: CPU (ms of CPU time per second, all processes) and RSS/PSS as master and as backup, packets really sent,
and the advert jitter that a third host sees (deviation of the gaps of a few sampled vrids from advert_int), idle,
beside busy loops at nice 0, and with track scripts running."""

from kab import *

CASES = "1:1,255:1,1000:1,1:0.1,255:0.1,1000:0.1,1:0.01,255:0.01,1000:0.01"


def main():
    a = args(
        lambda ap: (
            ap.add_argument("--cases", default=CASES, help="instances:advert_int,..."),
            ap.add_argument("--secs", type=float, default=5),
            ap.add_argument(
                "--loads",
                default="idle",
                help="idle, busy1, busy2 (loops on one, both cores), pin (daemon and loop on one core), scripts (100 track scripts a second); join with +",
            ),
            ap.add_argument(
                "--role",
                default="both",
                help="both (a pair of the same daemon), master (alone), backup (fed by floor.c)",
            ),
        ),
        runs=1,
    )
    r = Results(a, "steady")
    cs = [(int(x), float(y)) for x, y in (c.split(":") for c in a.cases.split(","))]
    net = Net((max(c[0] for c in cs) + 254) // 255)
    for n, adv in cs:
        links = (n + 254) // 255
        want = {net.vip(i) for i in range(n)}
        for load in a.loads.split(","):
            case = "%d inst, %g s%s%s" % (
                n,
                adv,
                "" if load == "idle" else ", " + load,
                "" if a.role == "both" else ", " + a.role,
            )
            if a.only and not re.search(a.only, case):
                continue
            glob, extra, pre = "", "", []
            if "scripts" in load:
                glob = (
                    "  script_user root\n  enable_script_security\n}\n"
                    + "".join(
                        'vrrp_script s%d {\n  script "/usr/bin/true"\n  interval 1\n}\n' % i
                        for i in range(100)
                    )
                    + "global_defs {\n"
                )
                extra = "  track_script {\n" + "".join("    s%d\n" % i for i in range(100)) + "  }\n"
            if "pin" in load:
                pre = ["taskset", "-c", "1"]
            for run in range(a.runs):
                for name, cmd in a.daemons:
                    w1 = AddrWatch(net.ns["n1"])
                    m = b = feed = None
                    if a.role in ("both", "master"):
                        # the extra tracking only in the first instance: the scripts run, the other instances do not change
                        cf = vrrp_conf(net, n, 200, "%g" % adv, glob=glob)
                        if extra:
                            cf = cf.replace("  virtual_ipaddress", extra + "  virtual_ipaddress", 1)
                        m = Daemon(cmd, cf, net.ns["n1"], "m", pre)
                        ok = len(w1.wait(want, limit=25 + 5 * adv))
                        if ok < n:
                            print("only %d of %d VIPs: %s %s" % (ok, n, case, name), file=sys.stderr)
                    if a.role == "backup":
                        feed = subprocess.Popen(
                            [
                                "ip",
                                "netns",
                                "exec",
                                net.ns["n1"],
                                floor(),
                                "adv",
                                str(n),
                                "%g" % (adv * 1e3),
                                "600",
                            ],
                            stdout=subprocess.DEVNULL,
                        )
                        time.sleep(0.3)
                    if a.role in ("both", "backup"):
                        b = Daemon(cmd, vrrp_conf(net, n, 100, "%g" % adv), net.ns["n2"], "b")
                    time.sleep(max(2.5, 1.5 * adv) + (2 if n > 255 else 0))
                    busy = [
                        subprocess.Popen(["taskset", "-c", str(c), sys.executable, "-c", "while 1: pass"])
                        for c in (
                            [0, 1] if "busy2" in load else [1] if "busy1" in load or "pin" in load else []
                        )
                    ]
                    time.sleep(0.3 if busy else 0)
                    ids = [v for v in (1, 100, 200) if v <= n][: 1 if n == 1 else 3]
                    s = Sniff(net.ns["obs"], "eth0", arp=False, vrids=ids)
                    ck = Clock()

                    def tx(h):
                        return sum(
                            int(x)
                            for x in sh(
                                [
                                    "ip",
                                    "netns",
                                    "exec",
                                    net.ns[h],
                                    "sh",
                                    "-c",
                                    "cat /sys/class/net/eth*/statistics/tx_packets",
                                ]
                            ).split()
                        )

                    c0 = [d.cpu_ns() if d else 0 for d in (m, b)]
                    p0 = tx("n1"), tx("n2")
                    t0 = time.monotonic()
                    pk = []
                    while time.monotonic() - t0 < a.secs:
                        time.sleep(min(1, max(0, a.secs - (time.monotonic() - t0))))
                        pk += s.drain()
                    dt = time.monotonic() - t0
                    c1 = [d.cpu_ns() if d else 0 for d in (m, b)]
                    p1 = tx("n1"), tx("n2")
                    pk += s.drain()
                    s.close()
                    for x in busy:
                        x.kill()
                        x.wait()
                    if m:
                        r.add(case, "master CPU", name, (c1[0] - c0[0]) / dt / 1e6, "ms/s")
                        r.add(case, "adverts sent / due", name, (p1[0] - p0[0]) / (n / adv * dt))
                    if b:
                        r.add(case, "backup CPU", name, (c1[1] - c0[1]) / dt / 1e6, "ms/s")
                        r.add(case, "backup sent (0 = right)", name, p1[1] - p0[1])
                    for d, x in ((m, "master"), (b, "backup")):
                        if d:
                            v = d.mem_kb()
                            for q, y in zip(("RSS", "PSS", "private dirty"), v):
                                r.add(case, "%s %s, %d processes" % (x, q, len(d.pids())), name, y, "KiB")
                    dev, late = [], 0
                    for v in ids:
                        ts = [p[0] for p in pk if p[2] == v and p[3] == net.addr("n1")]
                        dev += [(y - x) / 1e6 - adv * 1e3 for x, y in zip(ts, ts[1:])]
                    if len(dev) > 2 and m and not ck.stepped():
                        r.add(case, "gap deviation: std", name, statistics.pstdev(dev), "ms")
                        r.add(case, "gap deviation: max", name, max(map(abs, dev)), "ms")
                        r.add(case, "gap deviation: mean (drift)", name, statistics.mean(dev), "ms")
                    for d in (m, b):
                        if d:
                            d.kill()
                    if feed:
                        feed.kill()
                        feed.wait()
                    w1.close()
                    net.flush("n1")
                    net.flush("n2")
            print("done", case, file=sys.stderr, flush=True)
    r.table()


main()
