#!/usr/bin/env python3
"""0b. In a kernel with IPVS: minimum cost of programming n virtual servers x 4: ready-made generic netlink requests,
sent one by one with an acknowledgement each, and in batches with one acknowledgement per batch; `ipvsadm --restore` beside it."""

from kab import *


def attr(t, b):
    return struct.pack("=HH", 4 + len(b), t) + b + b"\0" * (-len(b) % 4)


def msg(fam, cmd, body, flags, seq):
    return struct.pack("=IHHIIBBH", 20 + len(body), fam, flags, seq, 0, cmd, 1, 0) + body


def family(s):
    s.send(msg(16, 3, attr(2, b"IPVS\0"), 1, 1))
    b = s.recv(65536)
    o = 20
    while o < len(b):
        l, t = struct.unpack_from("=HH", b, o)
        if t == 1:
            return struct.unpack_from("=H", b, o + 4)[0]
        o += (l + 3) & ~3


def requests(fam, n, delete=False):
    for i in range(n):
        a = socket.inet_aton("10.%d.%d.%d" % (i // 62500, i // 250 % 250, i % 250 + 1))
        key = (
            attr(1, struct.pack("=H", 2))
            + attr(2, struct.pack("=H", 6))
            + attr(3, a + b"\0" * 12)
            + attr(4, struct.pack(">H", 80))
        )
        if delete:
            yield fam, 3, attr(1 | 0x8000, key)
            continue
        yield (
            fam,
            1,
            attr(
                1 | 0x8000,
                key
                + attr(6, b"rr\0")
                + attr(7, struct.pack("=II", 0, 0xFFFFFFFF))
                + attr(8, struct.pack("=I", 0))
                + attr(9, b"\xff" * 4),
            ),
        )
        for j in range(4):
            k = i * 4 + j
            d = socket.inet_aton("172.%d.%d.%d" % (16 + k // 62500, k // 250 % 250, k % 250 + 1))
            yield (
                fam,
                5,
                attr(1 | 0x8000, key)
                + attr(
                    2 | 0x8000,
                    attr(1, d + b"\0" * 12)
                    + attr(2, struct.pack(">H", 80))
                    + attr(3, struct.pack("=I", 0))
                    + attr(4, struct.pack("=I", 1))
                    + attr(5, struct.pack("=I", 0))
                    + attr(6, struct.pack("=I", 0))
                    + attr(11, struct.pack("=H", 2)),
                ),
            )


def run(s, fam, n, per, delete=False):
    q = [msg(f, c, b, 1, 7) for f, c, b in requests(fam, n, delete)]
    bs = []
    for i in range(0, len(q), per):
        x = q[i : i + per]
        l = x[-1]
        x[-1] = l[:6] + struct.pack("=H", 5) + l[8:]
        bs.append(b"".join(x))
    bad = 0
    t = time.perf_counter_ns()
    for b in bs:
        s.send(b)
        while True:  # errors of the others come before the last one's acknowledgement
            r = s.recv(65536)
            e = struct.unpack_from("=i", r, 16)[0]
            if e:
                bad += 1
                print("error", e, file=sys.stderr)
            if struct.unpack_from("=H", r, 26)[0] & 4:
                break  # the echoed header has NLM_F_ACK: the last
    return (time.perf_counter_ns() - t) / 1e6, len(q), bad


def main():
    a = args(lambda ap: ap.add_argument("--vs", default="1000,5000"), runs=3)
    a.daemons = [("floor", "floor")]
    r = Results(a, "ipvs-floor")
    for n in [int(x) for x in a.vs.split(",")]:
        for i in range(a.runs):
            for per in (1, 200):
                with fresh_ns():
                    s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 16)
                    s.setsockopt(socket.SOL_SOCKET, 32, 8 << 20)
                    s.setsockopt(socket.SOL_SOCKET, 33, 8 << 20)
                    s.bind((0, 0))
                    fam = family(s)
                    c = "%d vs x4 rs, %d a request" % (n, per)
                    ms, k, bad = run(s, fam, n, per)
                    got = len(re.findall("->", open("/proc/thread-self/net/ip_vs").read())) - 1
                    r.add(c, "program", "floor", ms, "ms")
                    r.add(c, "a command", "floor", ms * 1e3 / k, "us")
                    r.add(c, "missing", "floor", 4 * n - got)
                    ms, k, bad = run(s, fam, n, per, True)
                    r.add(c, "delete the services", "floor", ms, "ms")
                    s.close()
            p = TMP + "/r"
            open(p, "w").write(
                "".join(
                    "-A -t 10.%d.%d.%d:80 -s rr\n" % (i // 62500, i // 250 % 250, i % 250 + 1)
                    + "".join(
                        "-a -t 10.%d.%d.%d:80 -r 172.%d.%d.%d:80 -m -w 1\n"
                        % (
                            i // 62500,
                            i // 250 % 250,
                            i % 250 + 1,
                            16 + k // 62500,
                            k // 250 % 250,
                            k % 250 + 1,
                        )
                        for k in range(4 * i, 4 * i + 4)
                    )
                    for i in range(n)
                )
            )
            with fresh_ns():
                t = time.perf_counter_ns()
                sh("ipvsadm -R <" + p)
                r.add(
                    "%d vs x4 rs, ipvsadm -R" % n,
                    "program",
                    "floor",
                    (time.perf_counter_ns() - t) / 1e6,
                    "ms",
                )
                t = time.perf_counter_ns()
                sh("ipvsadm -C")
                r.add(
                    "%d vs x4 rs, flush" % n, "one command", "floor", (time.perf_counter_ns() - t) / 1e6, "ms"
                )
    fl = floor()
    li = subprocess.Popen([fl, "listen", "8000", "0", "1"])
    time.sleep(0.3)
    for i in range(a.runs):
        v = [float(x) for x in re.findall(r"[\d.]+", sh([fl, "check", "200", "8000", "20"]))]
        r.add("bare TCP checks, 200 at a time", "CPU a check", "floor", v[1], "us")
        r.add("bare TCP checks, 200 at a time", "good of 4000", "floor", int(v[0]))
    li.kill()
    r.table()


main()
