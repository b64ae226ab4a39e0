#!/usr/bin/env python3
"""5. Reload (SIGHUP) of a master of n instances: time until a changed VIP is in effect (one VIP added to, removed from the last
instance), CPU used, the longest silence of the sampled vrids while reloading (missed = gap > 1.5 advert_int), packets that
were due but not sent, VIPs that went away (flap), whether the backup took over."""

from kab import *


def main():
    a = args(
        lambda ap: (
            ap.add_argument("--cases", default="255:0.1,1000:1,1000:0.1", help="instances:advert_int,..."),
            ap.add_argument("--settle", type=float, default=6),
        ),
        runs=5,
    )
    r = Results(a, "reload")
    cs = [(int(x), float(y)) for x, y in (c.split(":") for c in a.cases.split(","))]
    net = Net((max(c[0] for c in cs) + 254) // 255)
    for n, adv in cs:
        links = (n + 254) // 255
        want = {net.vip(i) for i in range(n)}
        xvip = "10.%d.2.200" % (100 + (n - 1) // 255)
        for name, cmd in a.daemons:
            w1 = AddrWatch(net.ns["n1"])
            w2 = AddrWatch(net.ns["n2"])
            m = Daemon(cmd, vrrp_conf(net, n, 200, "%g" % adv), net.ns["n1"], "m")
            w1.wait(want, limit=40)
            b = Daemon(cmd, vrrp_conf(net, n, 100, "%g" % adv), net.ns["n2"], "b")
            time.sleep(6 + 3 * adv)
            for run in range(a.runs):
                for kind, ch in (
                    ("nothing changed", ()),
                    ("one VIP added", (n - 1,)),
                    ("one VIP removed", ()),
                ):
                    case = "%d inst, %g s: %s" % (n, adv, kind)
                    if kind == "nothing changed" and run:
                        pass
                    open(m.conf, "w").write(vrrp_conf(net, n, 200, "%g" % adv, changed=ch))
                    w1.clear()
                    w2.clear()
                    ids = [v for v in (1, 60, 120, 180, 240) if v <= n]
                    sn = [Sniff(net.ns["obs"], "eth%d" % k, arp=False, vrids=ids) for k in range(links)]
                    ck = Clock()
                    time.sleep(1.1 * adv)
                    c0 = m.cpu_ns()
                    t0 = now()
                    m.p.send_signal(signal.SIGHUP)
                    if kind != "nothing changed":
                        g = w1.wait({xvip}, add="added" in kind, limit=a.settle)
                        if g:
                            r.add(case, "SIGHUP to change on the interface", name, (g[xvip] - t0) / 1e6, "ms")
                    time.sleep(max(0, a.settle - (now() - t0) / 1e9))
                    dt = (now() - t0) / 1e9
                    c1 = m.cpu_ns()
                    # a second window of the same length without a reload: the cost of the adverts alone
                    time.sleep(dt)
                    c2 = m.cpu_ns()
                    r.add(
                        case,
                        "CPU of the reload (less the adverts)",
                        name,
                        ((c1 - c0) - (c2 - c1)) / 1e6,
                        "ms",
                    )
                    worst, missed, foreign = 0, 0, 0
                    for k, s in enumerate(sn):
                        pk = s.drain()
                        s.close()
                        foreign += sum(1 for p in pk if p[3] != net.addr("n1", k))
                        for v in ids:
                            ts = [p[0] for p in pk if p[2] == v and p[3] == net.addr("n1", k)]
                            gaps = [(y - x) / 1e9 for x, y in zip(ts, ts[1:]) if y < t0 + dt * 1e9]
                            if gaps:
                                worst = max(worst, max(gaps))
                                missed += sum(1 for x in gaps if x > 1.5 * adv)
                    if ck.stepped():
                        continue
                    r.add(case, "longest advert gap", name, worst * 1e3, "ms")
                    r.add(case, "gaps > 1.5 advert_int (sampled vrids)", name, missed)
                    r.add(case, "adverts seen from the backup", name, foreign)
                    r.add(
                        case,
                        "VIPs removed (flaps)",
                        name,
                        len({ip for t, ad, ip in w1.ev if not ad and ip in want}),
                    )
                    r.add(
                        case,
                        "VIPs that the backup took",
                        name,
                        len({ip for t, ad, ip in w2.ev if ad and ip in want}),
                    )
            m.kill()
            b.kill()
            w1.close()
            w2.close()
            net.flush("n1")
            net.flush("n2")
        print("done %d %g" % (n, adv), file=sys.stderr, flush=True)
    r.table()


main()
