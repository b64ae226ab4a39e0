#!/usr/bin/env python3
"""3. Failover between two nodes on a bridge. hard: kill -9 of the master; soft: SIGTERM (priority-0 advert).
The floor is counted from what the wire showed: hard = last advert of the dead master + 3*advert + skew of the backup;
soft = the priority-0 advert + skew. overshoot = VIP present (RTM_NEWADDR read) or first gratuitous ARP (kernel time at a
third host) - floor. For n > 1 instances: to the last VIP / the last first-GARP."""

from kab import *

CASES = (
    "hard:2:1:1,hard:3:0.1:1,hard:3:0.01:1,soft:3:0.1:1,soft:3:1:1,hard:3:0.1:255,hard:3:1:255,soft:3:0.1:255"
)


def main():
    a = args(
        lambda ap: (
            ap.add_argument("--cases", default=CASES, help="hard|soft:version:advert_int:instances,..."),
            ap.add_argument("--prio", default="200,100"),
            ap.add_argument("--mixed", action="store_true", help="the master is always the first daemon"),
            ap.add_argument("--load", type=int, default=0, help="busy loops at nice 0 during the test"),
        ),
        runs=10,
    )
    r = Results(a, "failover")
    pm, pb = [int(x) for x in a.prio.split(",")]
    cs = [(k, int(v), float(x), int(n)) for k, v, x, n in (c.split(":") for c in a.cases.split(","))]
    net = Net((max(c[3] for c in cs) + 254) // 255)
    busy = [subprocess.Popen([sys.executable, "-c", "while 1: pass"]) for _ in range(a.load)]
    atexit.register(lambda: [b.kill() for b in busy])
    for kind, ver, adv, n in cs:
        case = "%s v%d %g s x%d%s" % (kind, ver, adv, n, " +%d busy" % a.load if a.load else "")
        if a.only and not re.search(a.only, case):
            continue
        links = (n + 254) // 255
        want = {net.vip(i) for i in range(n)}
        skew = (256 - pb) / 256 * (adv if ver == 3 else 1)
        floor_ns = (3 * adv + skew) * 1e9 if kind == "hard" else skew * 1e9
        macs = {net.mac("n2", k) for k in range(links)}
        for blk, (name, cmd) in [
            (i, d) for i in range(0, a.runs, 5) for d in a.daemons
        ]:  # blocks of 5, alternating
            w2 = AddrWatch(net.ns["n2"])
            w1 = AddrWatch(net.ns["n1"])
            b = Daemon(cmd, vrrp_conf(net, n, pb, "%g" % adv, ver), net.ns["n2"], "b")
            w2.wait(want, limit=20 + 8 * adv)
            for run in range(min(5, a.runs - blk)):
                w1.clear()
                w2.clear()
                m = Daemon(
                    a.daemons[0][1] if a.mixed else cmd,
                    vrrp_conf(net, n, pm, "%g" % adv, ver),
                    net.ns["n1"],
                    "m",
                )
                w1.wait(want, limit=20 + 8 * adv)
                w2.wait(want, add=False, limit=20 + 8 * adv)
                time.sleep(max(3.2 * adv, 0.1) + 0.5 + adv * random.random() + (1.5 if n > 1 else 0))
                sn = [Sniff(net.ns["obs"], "eth%d" % k) for k in range(links)]
                time.sleep(1.2 * adv + 0.02)
                w2.clear()
                ck = Clock()
                pids = m.pids()
                if kind == "hard":
                    t0 = m.kill_pids(pids)
                    m.p.wait(10)
                    Daemon.live.remove(m)
                else:
                    t0 = now()
                    m.p.send_signal(signal.SIGTERM)
                got = w2.wait(want, limit=20 + 8 * adv)
                time.sleep(0.15 if n == 1 else 0.6)
                last, first, garp, zero = {}, {}, {}, {}
                for k, s in enumerate(sn):
                    for t, kd, x, src, p in s.drain():
                        if kd == "vrrp":
                            if src == net.addr("n1", k):
                                if p == 0:
                                    zero.setdefault((k, x), t)
                                else:
                                    last[(k, x)] = t
                            else:
                                first.setdefault((k, x), t)
                        elif src in macs and x in want:
                            garp.setdefault(x, t)
                    s.close()
                if kind == "soft":
                    m.p.wait(30)
                    Daemon.live.remove(m)
                net.flush("n1")
                if ck.stepped():
                    continue
                if len(got) < n or len(garp) < n:
                    print("incomplete", case, name, len(got), len(garp), file=sys.stderr)
                    continue
                base = last if kind == "hard" else zero
                if len(base) < n:
                    print("no base", case, name, len(base), file=sys.stderr)
                    continue
                key = {net.vip(i): (i // 255, i % 255 + 1) for i in range(n)}
                ov = [(got[x] - base[key[x]] - floor_ns) / 1e6 for x in want]
                og = [(garp[x] - base[key[x]] - floor_ns) / 1e6 for x in want]
                oa = [(first[key[x]] - base[key[x]] - floor_ns) / 1e6 for x in want if key[x] in first]
                r.add(case, "signal to last VIP", name, (max(got.values()) - t0) / 1e6, "ms")
                r.add(case, "signal to last first-GARP", name, (max(garp.values()) - t0) / 1e6, "ms")
                r.add(
                    case,
                    "floor %g ms: VIP overshoot%s" % (floor_ns / 1e6, " (max of n)" if n > 1 else ""),
                    name,
                    max(ov),
                    "ms",
                )
                r.add(case, "GARP overshoot%s" % (" (max of n)" if n > 1 else ""), name, max(og), "ms")
                if n == 1:
                    # The observer reads the address with a delay: the result is negative when the announcement was faster.
                    r.add(
                        case,
                        "address to first GARP",
                        name,
                        (min(garp.values()) - min(got.values())) / 1e6,
                        "ms",
                    )
                if oa:
                    r.add(
                        case,
                        "first advert overshoot%s" % (" (max of n)" if n > 1 else ""),
                        name,
                        max(oa),
                        "ms",
                    )
                if n > 1:
                    r.add(case, "VIP overshoot (median of n)", name, statistics.median(ov), "ms")
                    r.add(
                        case, "first to last VIP", name, (max(got.values()) - min(got.values())) / 1e6, "ms"
                    )
                if kind == "soft":
                    r.add(
                        case, "SIGTERM to last priority-0 advert", name, (max(zero.values()) - t0) / 1e6, "ms"
                    )
            b.kill()
            w1.close()
            w2.close()
            net.flush("n1")
            net.flush("n2")
        print("done", case, file=sys.stderr, flush=True)
    r.table()


main()
