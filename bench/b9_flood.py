#!/usr/bin/env python3
"""9. A flood of valid adverts of lower priority for one instance (1 or 51 addresses): adverts that another instance of the
daemon sends, of those due at 0.1 s, as a third host sees them; the longest silence between two of them; processes that
were ended; CPU. The flood comes from another host. With and without vrrp_rt_priority."""

from kab import *

INSTANCE = """vrrp_instance {name} {{
  state MASTER
  interface eth0
  virtual_router_id {vrid}
  priority 200
  advert_int {interval}
  virtual_ipaddress {{
{addresses}  }}
}}
"""
FLOODED, OTHER, INTERVAL = 1, 2, 0.1


def conf(net, vips, rt):
    def instance(name, vrid, interval, addresses):
        lines = "".join("    %s/32\n" % x for x in addresses)
        return INSTANCE.format(name=name, vrid=vrid, interval=interval, addresses=lines)

    return (
        "global_defs {\n  router_id bench\n  vrrp_version 3\n%s}\n"
        % ("  vrrp_rt_priority %d\n" % rt if rt else "")
        + instance("FLOODED", FLOODED, 1, [net.vip(i) for i in range(vips)])
        + instance("OTHER", OTHER, INTERVAL, [net.vip(250)])
    )


def observe(sniff, secs):
    """times of the adverts of the other instance in a window of that many seconds, and the window"""
    sniff.drain()
    start, seen = now(), []
    while now() - start < secs * 1e9:
        time.sleep(min(0.5, secs))
        seen += [p for p in sniff.drain() if p[1] == "vrrp" and p[2] == OTHER]
    end = now()
    return [p[0] for p in seen if start <= p[0] <= end], start, end


def main():
    def extra(ap):
        ap.add_argument("--vips", default="1,51", help="addresses of the flooded instance")
        ap.add_argument("--rates", default="0,5000,100000", help="adverts a second")
        ap.add_argument("--rt", default="0,50", help="vrrp_rt_priority; 0 for none")
        ap.add_argument("--secs", type=float, default=10)

    a = args(extra, runs=3)
    r = Results(a, "flood")
    net = Net(1)
    ints = lambda text: [int(x) for x in text.split(",")]
    for vips, rate, rt in [(v, x, p) for p in ints(a.rt) for v in ints(a.vips) for x in ints(a.rates)]:
        case = "%d VIPs, %d adverts/s%s" % (vips, rate, ", rt priority %d" % rt if rt else "")
        if a.only and not re.search(a.only, case):
            continue
        for run in range(a.runs):
            for name, cmd in a.daemons:
                net.flush("n1")
                watch = AddrWatch(net.ns["n1"])
                d = Daemon(cmd, conf(net, vips, rt), net.ns["n1"], "m")
                want = {net.vip(i) for i in [*range(vips), 250]}
                if len(watch.wait(want, limit=20)) < len(want):
                    print("not master:", case, name, d.logs()[-500:], file=sys.stderr)
                watch.close()
                time.sleep(1.5)
                before, flood = d.pids(), None
                if rate:
                    flood = subprocess.Popen(
                        ["ip", "netns", "exec", net.ns["n2"], floor()]
                        + ["flood", str(FLOODED), "100", str(vips), str(rate), "%g" % (a.secs + 1.5)],
                        stdout=subprocess.PIPE,
                        text=True,
                    )
                time.sleep(0.5)
                sniff = Sniff(net.ns["obs"], "eth0", arp=False, vrids=[OTHER])
                clock, cpu = Clock(), d.cpu_ns()
                times, start, end = observe(sniff, a.secs)
                cpu = d.cpu_ns() - cpu
                sniff.close()
                sent = flood.communicate()[0] if flood else "0 packets 0 a second"
                ended = len(set(before) - set(d.pids()))
                if not clock.stepped():
                    gaps = [y - x for x, y in zip([start, *times], [*times, end])]
                    due = (end - start) / 1e9 / INTERVAL
                    r.add(
                        case, "adverts of the other instance, sent / due", name, 100 * len(times) / due, "%"
                    )
                    r.add(case, "longest silence of it", name, max(gaps) / 1e6, "ms")
                r.add(case, "flood", name, float(sent.split()[2]), "1/s")
                r.add(case, "CPU", name, cpu / (end - start) * 1e3, "ms/s")
                r.add(case, "processes ended", name, ended)
                d.term()
    r.table()


main()
