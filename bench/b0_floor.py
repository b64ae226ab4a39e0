#!/usr/bin/env python3
"""0. Minimum cost of the measured operations on this machine (floor.c in the same networks as the daemons'): ns per advert
sent and received, ns per address, ns per gratuitous ARP, an exec, lateness of a timer."""

from kab import *


def main():
    a = args(lambda ap: ap.add_argument("--secs", default="3"), runs=3)
    a.daemons = [("floor", "floor")]
    r = Results(a, "floor")
    fl = floor()
    net = Net(4)

    def go(*x, h="n1", bg=False):
        c = ["ip", "netns", "exec", net.ns[h], fl] + [str(y) for y in x]
        return subprocess.Popen(c, stdout=subprocess.PIPE, text=True) if bg else sh(c)

    num = lambda o: [float(x) for x in re.findall(r"-?[\d.]+", o)]
    for run in range(a.runs):
        r.add("process", "exec of a static program", "floor", measured([fl])[0], "ms")
        for ms in (10, 100):
            for what, x in zip(("median", "p95", "max"), num(go("wake", ms, 20 if ms > 10 else 200))):
                r.add("timerfd of %d ms" % ms, "wakes late: " + what, "floor", x, "us")
        for n, ms in ((1, 1000), (255, 1000), (1000, 1000), (255, 100), (1000, 100), (255, 10), (1000, 10)):
            for m, how in ((1, "sendto each"), (64, "sendmmsg of 64")):
                if m == 64 and n == 1:
                    continue
                rc = go("recv", n, a.secs, h="n2", bg=True)
                time.sleep(0.05)
                v = num(go("adv", n, ms, float(a.secs) - 0.2, m))
                o, _ = rc.communicate()
                w = num(o)
                c = "%d inst, %g s" % (n, ms / 1e3)
                r.add(c, "send, %s" % how, "floor", v[1], "ns/packet")
                r.add(c, "send, %s" % how, "floor", v[2] * 10, "ms/s")
                if m == 64 or n == 1:
                    r.add(c, "receive, recvmmsg", "floor", w[1], "ns/packet")
                    r.add(c, "receive, recvmmsg", "floor", w[2] * 10, "ms/s")
                    r.add(c, "received / sent", "floor", w[0] / max(1, v[0]))
        for b in (1, 255):
            r.add("1000 addresses", "add, %d a request" % b, "floor", num(go("addr", 1000, b))[1], "ns")
            r.add(
                "1000 addresses",
                "delete, %d a request" % b,
                "floor",
                num(go("addr", 1000, b, "del"))[1],
                "ns",
            )
        r.add("5000 gratuitous ARPs", "send", "floor", num(go("garp", 1000, 5))[1], "ns")
        rc = go("recv", 1000, 2, h="n2", bg=True)
        time.sleep(0.1)
        v = num(go("advp", 1000, 20))
        w = num(rc.communicate()[0])
        r.add("20000 adverts", "ready-made frames on a packet socket", "floor", v[1], "ns/packet")
        r.add("20000 adverts", "of them received", "floor", w[0] / v[0])
    r.table()


main()
