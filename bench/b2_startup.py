#!/usr/bin/env python3
"""2. Start to MASTER: exec -> first advert, -> every instance's first advert, -> every VIP present, over the protocol floor.
Floor: priority 255 (address owner): 0. Otherwise master-down = 3*advert + skew, skew = (256-prio)/256 * advert."""

from kab import *


def main():
    a = args(
        lambda ap: (
            ap.add_argument(
                "--cases",
                default="1:0.1:255,1:0.1:200,1:1:200,255:0.1:255,255:0.1:200,255:1:200,1000:0.1:255,1000:1:255,1000:0.1:200,1000:1:200",
                help="instances:advert_int:priority,...",
            ),
            ap.add_argument("--vmac", action="store_true", help="each instance with use_vmac"),
        ),
        runs=5,
    )
    r = Results(a, "startup")
    cs = [(int(x), float(y), int(z)) for x, y, z in (c.split(":") for c in a.cases.split(","))]
    net = Net((max(c[0] for c in cs) + 254) // 255, ("n1", "obs"))
    for n, adv, prio in cs:
        case = "%d inst, v3 %g s, prio %d%s" % (n, adv, prio, ", VMAC" * a.vmac)
        if a.only and not re.search(a.only, case):
            continue
        floor_ms = 0 if prio == 255 else (3 * adv + (256 - prio) / 256 * adv) * 1e3
        links = (n + 254) // 255
        want = {net.vip(i) for i in range(n)}
        for run in range(a.runs):
            for name, cmd in a.daemons:
                w = AddrWatch(net.ns["n1"])
                sn = [Sniff(net.ns["obs"], "eth%d" % k) for k in range(links)]
                ck = Clock()
                d = Daemon(
                    cmd,
                    vrrp_conf(
                        net,
                        n,
                        prio,
                        ("%g" % adv),
                        state="MASTER" if prio == 255 else "BACKUP",
                        extra="  use_vmac\n" * a.vmac,
                    ),
                    net.ns["n1"],
                )
                got = w.wait(want, limit=floor_ms / 1e3 + (150 if a.vmac else 40))
                time.sleep(0.3)
                firsts, arps = {}, {}
                for k, s in enumerate(sn):
                    for t, kind, x, src, p in s.drain():
                        if kind == "vrrp":
                            firsts.setdefault((k, x), t)
                        else:
                            arps.setdefault(x, t)
                    s.close()
                cpu = d.cpu_ns() / 1e6
                d.kill()
                w.close()
                net.flush("n1")
                if ck.stepped():
                    continue
                ms = lambda t: (t - d.t0) / 1e6
                if len(got) == n:
                    r.add(case, "exec to last VIP", name, ms(max(got.values())), "ms")
                    r.add(case, "over floor %g" % floor_ms, name, ms(max(got.values())) - floor_ms, "ms")
                    r.add(
                        case, "first to last VIP", name, (max(got.values()) - min(got.values())) / 1e6, "ms"
                    )
                else:
                    print("missing VIPs", case, name, n - len(got), d.logs()[-300:], file=sys.stderr)
                if firsts:
                    r.add(case, "exec to first advert", name, ms(min(firsts.values())), "ms")
                    if len(firsts) == n:
                        r.add(case, "exec to all adverts", name, ms(max(firsts.values())), "ms")
                if len(arps) >= n:
                    r.add(case, "exec to all first GARPs", name, ms(max(arps.values())), "ms")
                r.add(case, "CPU used by then", name, cpu, "ms")
        print("done", case, file=sys.stderr, flush=True)
    r.table()


main()
