#!/usr/bin/env python3
"""9. A flood of valid adverts of lower priority for one instance (1 or 51 addresses): adverts that another instance of the
daemon sends, of those due at 0.1 s, as a third host sees them; the longest silence between two of them; processes that
were ended; CPU. The flood comes from another host. With and without vrrp_rt_priority.

A window contains at least its length divided by the interval, rounded down, of adverts sent in time: these are due.

Exits with status 1 if a case breaks a bound: the median share of each daemon but the first must be at least 99 % and at
least that of the first one in this run, none of its processes may be ended, and the flood must reach at least 80 % of the
requested rate."""

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
SHARE, FLOOD, ENDED = "adverts of the other instance, sent / due", "flood", "processes ended"
LEAST = 99


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
    cases = []
    ints = lambda text: [int(x) for x in text.split(",")]
    for vips, rate, rt in [(v, x, p) for p in ints(a.rt) for v in ints(a.vips) for x in ints(a.rates)]:
        case = "%d VIPs, %d adverts/s%s" % (vips, rate, ", rt priority %d" % rt if rt else "")
        if a.only and not re.search(a.only, case):
            continue
        cases.append((case, rate))
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
                    due = int((end - start) / 1e9 / INTERVAL)
                    share = min(100.0, 100 * len(times) / due)
                    r.add(case, SHARE, name, share, "%")
                    r.add(case, "longest silence of it", name, max(gaps) / 1e6, "ms")
                r.add(case, FLOOD, name, float(sent.split()[2]), "1/s")
                r.add(case, "CPU", name, cpu / (end - start) * 1e3, "ms/s")
                r.add(case, ENDED, name, ended)
                d.term()
    r.table()
    broken = [text for case, rate in cases for text in bounds(r, [n for n, _ in a.daemons], case, rate)]
    print("\n".join(["", *broken] if broken else ["", "all bounds hold"]))
    return 1 if broken else 0


def bounds(r, names, case, rate):
    """what breaks a bound in this case, in words"""

    def values(metric, unit, name):
        return r.rows.get((case, metric, unit), {}).get(name, [])

    for name in names:
        reached = values(FLOOD, "1/s", name)
        if rate and (not reached or min(reached) < 0.8 * rate):
            yield "%s, %s: the flood reached %s of %d a second" % (
                case,
                name,
                "%.0f" % min(reached) if reached else "nothing",
                rate,
            )
    first = values(SHARE, "%", names[0])
    for name in names[1:] or names:
        share = values(SHARE, "%", name)
        if not share:
            yield "%s, %s: no figure" % (case, name)
            continue
        median = statistics.median(share)
        if median < LEAST:
            yield "%s, %s: %.1f %% of the adverts, at least %d are required" % (case, name, median, LEAST)
        if first and median < statistics.median(first):
            yield "%s, %s: %.1f %% of the adverts, %s sent %.1f %%" % (
                case,
                name,
                median,
                names[0],
                statistics.median(first),
            )
        if sum(values(ENDED, "", name)):
            yield "%s, %s: %d processes were ended" % (case, name, sum(values(ENDED, "", name)))


sys.exit(main())
