#!/usr/bin/env python3
"""6. IPVS (needs a kernel that has it: run inside the guest of shared/ipvs-guest/run): time to program n virtual servers x 4
at the start (checks that cannot have run yet do not count: alpha off), to take them away at SIGTERM, a reload with nothing and
with one weight changed, CPU a TCP check, time from the first refused check to the removal of a dead server.
Each run has a new namespace. The table is read no more than a fifth of the time, so times are good to about one reading (given).
"""

from kab import *


def tbl():
    t = time.monotonic()
    b = open("/proc/thread-self/net/ip_vs", "rb").read()
    return b.count(b"\n  ->"), len(re.findall(rb"^(?:TCP|UDP|FWM) ", b, re.M)), b, time.monotonic() - t


def until(cond, limit):
    end = time.monotonic() + limit
    cost = 0
    while time.monotonic() < end:
        rs, vs, b, cost = tbl()
        t = now()
        if cond(rs - HDR, vs, b):
            return t, cost
        time.sleep(max(0.002, 4 * cost))
    return None, cost


HDR = 0


def ticks(d):
    s = 0
    for p in d.pids():
        r = open("/proc/%d/stat" % p).read().rsplit(")", 1)[1].split()
        s += sum(int(x) for x in r[11:15])
    return s * 1000 / os.sysconf("SC_CLK_TCK")


def main():
    global HDR
    a = args(
        lambda ap: (
            ap.add_argument("--vs", default="100,1000,5000"),
            ap.add_argument("--checks", default="1000,4000"),
            ap.add_argument("--limit", type=float, default=120),
            ap.add_argument("--dead", type=int, default=10),
            ap.add_argument("--no-reload", action="store_true"),
        ),
        runs=3,
    )
    r = Results(a, "ipvs")
    fl = floor()
    with fresh_ns():
        HDR = tbl()[0]
    for n in [int(x) for x in a.vs.split(",") if x]:
        case = "%d vs x4 rs, no checks" % n
        for run in range(a.runs):
            for name, cmd in a.daemons:
                with fresh_ns():
                    d = Daemon(cmd, lvs_conf(n, check=None))
                    t, cost = until(lambda rs, vs, b: rs >= 4 * n and vs >= n, a.limit)
                    if not t:
                        print("not programmed", case, name, tbl()[:2], d.logs()[-500:], file=sys.stderr)
                        d.kill()
                        continue
                    r.add(case, "exec to all programmed", name, (t - d.t0) / 1e6, "ms")
                    r.add(case, "one table reading", name, cost * 1e3, "ms")
                    r.add(case, "CPU by then", name, ticks(d), "ms")
                    for x, y in zip(("RSS", "PSS", "private dirty"), d.mem_kb()):
                        r.add(case, "%s, %d processes" % (x, len(d.pids())), name, y, "KiB")
                    if not a.no_reload:
                        time.sleep(1)
                        c0 = ticks(d)
                        d.p.send_signal(signal.SIGHUP)
                        last = -1
                        k = 0
                        while k < 40 and not (ticks(d) == last and k > 5):
                            last = ticks(d)
                            time.sleep(0.3)
                            k += 1
                        r.add(case, "CPU of a reload, nothing changed", name, ticks(d) - c0, "ms")
                        open(d.conf, "w").write(lvs_conf(n, check=None, changed=(4 * n - 1,)))
                        c0 = ticks(d)
                        t0 = now()
                        d.p.send_signal(signal.SIGHUP)
                        t, cost = until(lambda rs, vs, b: re.search(rb":0050 +Masq +2 ", b), a.limit)
                        if t:
                            r.add(
                                case,
                                "reload: SIGHUP to the one changed weight in the table",
                                name,
                                (t - t0) / 1e6,
                                "ms",
                            )
                        x = tbl()
                        r.add(case, "after it: real servers missing", name, 4 * n - (x[0] - HDR))
                    t0 = now()
                    d.p.send_signal(signal.SIGTERM)
                    t, cost = until(lambda rs, vs, b: vs == 0, a.limit)
                    if t:
                        r.add(case, "SIGTERM to empty table", name, (t - t0) / 1e6, "ms")
                    d.p.wait(60)
                    Daemon.live.remove(d)
                    r.add(case, "SIGTERM to exit", name, (now() - t0) / 1e6, "ms")
        print("done", case, file=sys.stderr, flush=True)
    for n in [int(x) for x in a.checks.split(",") if x]:
        case = "%d TCP checks a second" % n
        for name, cmd in a.daemons:
            with fresh_ns():
                li = subprocess.Popen([fl, "listen", "8000", "0", "1"])
                time.sleep(0.2)
                d = Daemon(
                    cmd,
                    lvs_conf(
                        max(1, n // 4),
                        4,
                        delay=1,
                        rsport=8000,
                        rsaddr=lambda k: "127.1.%d.%d" % (k // 250, k % 250 + 1),
                    ),
                )
                t, cost = until(lambda rs, vs, b: rs >= n, a.limit)
                time.sleep(5)

                def st():
                    return [
                        int(x)
                        for x in re.findall(r"^Tcp: (\d.*)", open("/proc/thread-self/net/snmp").read(), re.M)[
                            0
                        ].split()
                    ]

                c0, s0, t0 = ticks(d), st(), time.monotonic()
                time.sleep(10)
                c1, s1, dt = ticks(d), st(), time.monotonic() - t0
                done = s1[5] - s0[5]  # passive opens = checks that reached the listener
                r.add(case, "checks done / due", name, done / (n * dt))
                r.add(case, "CPU", name, (c1 - c0) / dt, "ms/s")
                if done:
                    r.add(case, "CPU a check", name, (c1 - c0) * 1e3 / done, "us")
                r.add(case, "servers up", name, tbl()[0] - HDR)
                for x, y in zip(("RSS", "PSS", "private dirty"), d.mem_kb()):
                    r.add(case, "%s, %d processes" % (x, len(d.pids())), name, y, "KiB")
                d.term(60)
                li.kill()
                li.wait()
        print("done", case, file=sys.stderr, flush=True)
    if a.dead:
        case = "dead server, delay_loop 1, retry 0"
        for name, cmd in a.daemons:
            with fresh_ns():
                s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x800))
                s.bind(("lo", 0x800))
                s.setblocking(False)
                s.setsockopt(socket.SOL_SOCKET, 35, 1)
                li = subprocess.Popen([fl, "listen", "8000", "0", "1"])
                d = Daemon(cmd, lvs_conf(1, 1, delay=1, rsport=8000, rsaddr=lambda k: "127.1.0.1"))
                until(lambda rs, vs, b: rs == 1, 20)
                for i in range(a.dead):
                    time.sleep(2 + random.random())
                    while True:
                        try:
                            s.recv(64)
                        except BlockingIOError:
                            break
                    t0 = now()
                    li.kill()
                    li.wait()
                    t, cost = until(lambda rs, vs, b: rs == 0 or b" 0  " in b and rs == 0, 20)
                    rst = None
                    while True:
                        try:
                            b, anc, _, _ = s.recvmsg(128, 64)
                        except BlockingIOError:
                            break
                        if (
                            b[23] == 6
                            and b[14 + 20 + 13] & 4
                            and struct.unpack_from(">H", b, 34)[0] == 8000
                            and not rst
                        ):
                            for l, ty, x in anc:
                                if l == 1 and ty == 35:
                                    q, w = struct.unpack("qq", x[:16])
                                    rst = q * 10**9 + w
                    if t:
                        r.add(case, "kill of the server to removal", name, (t - t0) / 1e6, "ms")
                        if rst:
                            r.add(case, "first RST to removal", name, (t - rst) / 1e6, "ms")
                    li = subprocess.Popen([fl, "listen", "8000", "0", "1"])
                    t0 = now()
                    t, cost = until(lambda rs, vs, b: rs == 1, 20)
                    if t:
                        r.add(case, "server back to added", name, (t - t0) / 1e6, "ms")
                li.kill()
                d.term()
                s.close()
    r.table()


main()
