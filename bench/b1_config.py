#!/usr/bin/env python3
"""Configuration test (-t): wall time, CPU time and peak memory over generated configurations, and how CPU time grows.

The growth exponent between two sizes is 1 when the work is linear in the size, 2 when it is quadratic."""
from kab import *
import math


def one(cmd, path, ns=None):
    drop = ("-p", "-f", "-r", "-c", "-n", "-l")
    a = [x for x in cmd.split() if "{" not in x and x not in drop]
    return measured(a + ["-t", "-f", path], ns)


def lines(n, form):
    return "".join(form(i) for i in range(n))


def address(i):
    return "10.%d.%d.%d" % (10 + i // 62500, i // 250 % 250, i % 250 + 1)


def instance(body):
    return (
        "vrrp_instance V {\n  interface eth0\n  virtual_router_id 1\n  priority 100\n"
        "  virtual_ipaddress {\n    10.9.0.1/32\n  }\n%s}\n" % body
    )


def excluded(net, n):
    return instance(
        "  virtual_ipaddress_excluded {\n%s  }\n" % lines(n, lambda i: "    %s/32\n" % address(i))
    )


def group_entries(net, n):
    return "virtual_server_group G {\n%s}\n%s" % (
        lines(n, lambda i: "  %s 80\n" % address(i)),
        "virtual_server group G {\n  lb_algo rr\n  lb_kind NAT\n  protocol TCP\n"
        "  real_server 172.16.0.1 80 {\n    weight 1\n  }\n}\n",
    )


def scripts(net, n):
    return "global_defs {\n  script_user root\n  enable_script_security\n}\n%s%s" % (
        lines(n, lambda i: 'vrrp_script s%d {\n  script "/usr/bin/true"\n  interval 1\n}\n' % i),
        instance("  track_script {\n%s  }\n" % lines(n, lambda i: "    s%d\n" % i)),
    )


def one_sync_group(net, n):
    return "%svrrp_sync_group G {\n  group {\n%s  }\n}\n" % (
        vrrp_conf(net, n, 100, 1),
        lines(n, lambda i: "    V%d\n" % i),
    )


def groups_of_2(net, n):
    form = "vrrp_sync_group G%d {\n  group {\n    V%d\n    V%d\n  }\n}\n"
    groups = "".join(form % (i, i, i + 1) for i in range(0, n - 1, 2))
    return vrrp_conf(net, n, 100, 1) + groups


SHAPES = {
    "rs in 1 vs": lambda net, n: lvs_conf(1, n),
    "excluded vips in 1 instance": excluded,
    "entries in 1 vs group": group_entries,
    "track scripts": scripts,
    "instances in 1 sync group": one_sync_group,
    "instances in sync groups of 2": groups_of_2,
    # None of the interfaces exists: one diagnostic per instance.
    "instances without interface": lambda net, n: vrrp_conf(net, n, 100, 1).replace(
        "interface eth", "interface none"
    ),
}


def sizes(text):
    return [int(x) for x in text.split(",") if x]


def arguments(ap):
    ap.add_argument("--vs", default="1000,5000,20000", help="virtual servers with four real servers each")
    ap.add_argument("--vi", default="200,1000,4000", help="instances")
    ap.add_argument("--shapes", default="", help="sizes of long lists, e.g. 1000,4000")
    ap.add_argument("--limit", type=float, default=60, help="seconds above which a case is run only once")


def main():
    a = args(arguments, runs=5)
    r = Results(a, "config")
    plan = [("vs x4 rs", lambda net, n: lvs_conf(n), n) for n in sizes(a.vs)]
    plan += [("instances", lambda net, n: vrrp_conf(net, n, 100, 1), n) for n in sizes(a.vi)]
    plan += [(name, shape, n) for n in sizes(a.shapes) for name, shape in SHAPES.items()]
    plan = [x for x in plan if not a.only or re.search(a.only, "%d %s" % (x[2], x[0]))]
    most = max([n for name, _, n in plan if "instances" in name] + [1])
    net = Net((most + 254) // 255, ("n1",))
    growth = {}
    for name, shape, n in plan:
        case = "%d %s" % (n, name)
        path = "%s/%s.conf" % (TMP, case.replace(" ", "_"))
        text = shape(net, n)
        open(path, "w").write(text)
        done = set()
        for _ in range(a.runs):
            for daemon, cmd in a.daemons:
                if daemon in done:
                    continue
                wall, cpu, memory, status = one(cmd, path, net.ns["n1"])
                r.add(case, "wall", daemon, wall, "ms")
                r.add(case, "cpu", daemon, cpu, "ms")
                r.add(case, "peak RSS", daemon, memory, "KiB")
                r.add(case, "exit status", daemon, status)
                growth.setdefault((name, daemon), {}).setdefault(n, []).append(cpu)
                if wall > a.limit * 1e3:
                    done.add(daemon)
        r.add(case, "file size", a.daemons[0][0], len(text), "B")
        print("done", case, file=sys.stderr, flush=True)
    r.table()
    print("\ngrowth exponent of CPU time between sizes (1 = linear, 2 = quadratic):")
    for (name, daemon), by_size in growth.items():
        median = {n: max(0.1, statistics.median(v)) for n, v in sorted(by_size.items())}
        pairs = zip(median, list(median)[1:])
        text = ["%d->%d: %.2f" % (x, y, math.log(median[y] / median[x]) / math.log(y / x)) for x, y in pairs]
        if text:
            print("  %s, %s: %s" % (name, daemon, ", ".join(text)))


main()
