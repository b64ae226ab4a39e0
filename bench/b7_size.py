#!/usr/bin/env python3
"""7. The program file: size, stripped size, shared libraries it loads and their size; time of `--version`; exec to the
first advert of one instance of priority 255 (cold: after dropping the page cache, where this machine permits it)."""

from kab import *


def main():
    a = args(
        lambda ap: ap.add_argument(
            "--cold", action="store_true", help="also with dropped caches (disturbs other programs)"
        ),
        runs=20,
    )
    r = Results(a, "size")
    net = Net(1, ("n1", "obs"))
    for name, cmd in a.daemons:
        p = shutil.which(cmd.split()[0])
        r.add("program", "file", name, os.path.getsize(p), "B")
        s = TMP + "/stripped"
        sh(["strip", "-o", s, p], False)
        if os.path.exists(s):
            r.add("program", "stripped", name, os.path.getsize(s), "B")
        libs = set(re.findall(r"(/\S+) \(0x", sh(["ldd", p], False)))
        r.add("program", "shared libraries", name, len(libs))
        r.add(
            "program",
            "size of the shared libraries",
            name,
            sum(os.path.getsize(os.path.realpath(x)) for x in libs),
            "B",
        )
    for i in range(a.runs):
        for name, cmd in a.daemons:
            w, c, m, rc = measured([cmd.split()[0], "--version"])
            r.add("--version", "wall", name, w, "ms")
            r.add("--version", "peak RSS", name, m, "KiB")
    w, c, m, rc = measured(["/bin/true"])
    r.add("/bin/true", "wall", a.daemons[0][0], w, "ms")
    for cold in (0, 1) if a.cold else (0,):
        for i in range(a.runs if not cold else 5):
            for name, cmd in a.daemons:
                sn = Sniff(net.ns["obs"], "eth0")
                w = AddrWatch(net.ns["n1"])
                if cold:
                    sh("sync; echo 3 >/proc/sys/vm/drop_caches", False)
                    time.sleep(0.2)
                ck = Clock()
                d = Daemon(cmd, vrrp_conf(net, 1, 255, "1", state="MASTER"), net.ns["n1"])
                g = w.wait({net.vip(0)}, limit=10)
                time.sleep(0.1)
                pk = sn.drain()
                case = "1 instance, prio 255%s" % (", dropped caches" if cold else "")
                v = [p[0] for p in pk if p[1] == "vrrp"]
                q = [p[0] for p in pk if p[1] == "arp"]
                if ck.stepped():
                    v = g = q = None
                if v:
                    r.add(case, "exec to first advert", name, (v[0] - d.t0) / 1e6, "ms")
                if g:
                    r.add(case, "exec to VIP", name, (g[net.vip(0)] - d.t0) / 1e6, "ms")
                if q:
                    r.add(case, "exec to first GARP", name, (q[0] - d.t0) / 1e6, "ms")
                r.add(case, "CPU by then", name, d.cpu_ns() / 1e6, "ms")
                d.kill()
                w.close()
                sn.close()
                net.flush("n1")
    r.table()


main()
