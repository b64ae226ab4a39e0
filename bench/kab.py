"""Shared part of the benchmarks of keepalived-compatible daemons (Python 3 standard library; needs root and `ip`).

A daemon under test is given as   -d NAME='BASE COMMAND'   (may be repeated; the runs alternate between them).
The base command gets  -n -l -f CONF -p PID -r VPID -c CPID  appended, unless it holds {conf} {pid} {vpid} {cpid}.
With no -d: the environment's DAEMON (and DAEMON_B), else keepalived from PATH.
Raw values go, one JSON object a line, to --json FILE; a table of medians and of ratios to the first daemon is printed.
"""

import argparse
import atexit
import contextlib
import ctypes
import glob
import json
import os
import random
import re
import select
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TMP = tempfile.mkdtemp(prefix="kab")
PFX = "kb%d" % (os.getpid() % 100000)
LIBC = ctypes.CDLL(None, use_errno=True)
now = time.time_ns


# ---------------------------------------------------------------- arguments, results
def args(extra=None, **defaults):
    ap = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    ap.add_argument("-d", "--daemon", action="append", default=[], help="NAME='COMMAND'")
    ap.add_argument("--json", default=None, help="append raw values here")
    ap.add_argument("-n", "--runs", type=int, default=defaults.get("runs", 5))
    ap.add_argument("--only", default=None, help="regular expression of cases to run")
    if extra:
        extra(ap)
    a = ap.parse_args()
    ds = (
        a.daemon or [x for x in (os.environ.get("DAEMON"), os.environ.get("DAEMON_B")) if x] or ["keepalived"]
    )
    a.daemons = []
    for i, d in enumerate(ds):
        m = re.match(r"([\w.+-]+)=(.*)", d, re.S)
        a.daemons.append((m[1], m[2]) if m else ("AB"[i] if len(ds) > 1 else "daemon", d))
    return a


class Results:
    def __init__(self, a, bench):
        self.a, self.bench, self.rows, self.order = a, bench, {}, []
        self.p0 = pressure()

    def add(self, case, metric, daemon, value, unit=""):
        k = (case, metric, unit)
        if k not in self.rows:
            self.rows[k] = {}
            self.order.append(k)
        self.rows[k].setdefault(daemon, []).append(value)
        if self.a.json:
            with open(self.a.json, "a") as f:
                f.write(
                    json.dumps(
                        dict(
                            t=round(time.time(), 1),
                            bench=self.bench,
                            case=case,
                            metric=metric,
                            unit=unit,
                            daemon=daemon,
                            value=value,
                        )
                    )
                    + "\n"
                )

    def table(self):
        names = [n for n, _ in self.a.daemons]
        w = (
            ["case", "metric"]
            + ["%s: median [min..max] n" % n for n in names]
            + ["%s/%s" % (n, names[0]) for n in names[1:]]
        )
        print("| " + " | ".join(w) + " |\n|" + "---|" * len(w))
        for k in self.order:
            r = self.rows[k]
            c = [k[0], "%s%s" % (k[1], " (%s)" % k[2] if k[2] else "")]
            med = {}
            for n in names:
                v = [x for x in r.get(n, []) if x is not None]
                med[n] = statistics.median(v) if v else None
                c.append("%s [%s..%s] %d" % (fmt(med[n]), fmt(min(v)), fmt(max(v)), len(v)) if v else "-")
            for n in names[1:]:
                c.append("%.3g" % (med[n] / med[names[0]]) if med[n] is not None and med[names[0]] else "-")
            print("| " + " | ".join(c) + " |", flush=True)
        p = pressure()
        if p[0] > self.p0[0]:
            print(
                "\nmachine while measuring: %.0f %% of its CPU time busy, a task waited for a CPU %.0f %% of the time"
                % (
                    100 * (p[1] - self.p0[1]) / (p[0] - self.p0[0]) / os.cpu_count() / 1e3,
                    100 * (p[2] - self.p0[2]) / (p[0] - self.p0[0]) / 1e3,
                )
            )


def pressure():
    """now, busy CPU time of the machine, time some task waited for a CPU (us)"""
    v = [int(x) for x in open("/proc/stat").readline().split()[1:]]
    try:
        w = int(re.search(r"some.*total=(\d+)", open("/proc/pressure/cpu").read())[1])
    except (OSError, TypeError):
        w = 0
    return time.monotonic() * 1e3, (sum(v) - v[3] - v[4]) * 1e6 / os.sysconf("SC_CLK_TCK"), w


class Clock:
    """kernel receive times use the settable clock: returns whether it was stepped meanwhile (a virtual machine's host does that)"""

    def __init__(self):
        self.o = time.time_ns() - time.monotonic_ns()

    def stepped(self):
        d = time.time_ns() - time.monotonic_ns() - self.o
        if abs(d) > 500_000:
            print("clock stepped by %.3f ms: value dropped" % (d / 1e6), file=sys.stderr, flush=True)
            return True
        return False


def fmt(x):
    return "-" if x is None else "%d" % x if isinstance(x, int) else "%.4g" % x


def spread(v):
    """median, p95, max, n of a list of numbers"""
    v = sorted(v)
    return statistics.median(v), v[min(len(v) - 1, int(len(v) * 0.95))], v[-1], len(v)


# ---------------------------------------------------------------- namespaces
def sh(cmd, check=True, **kw):
    r = subprocess.run(cmd, shell=isinstance(cmd, str), capture_output=True, text=True, **kw)
    if check and r.returncode:
        raise RuntimeError("%s -> %d %s%s" % (cmd, r.returncode, r.stdout, r.stderr))
    return r.stdout


@contextlib.contextmanager
def in_ns(ns):
    """run the body (open sockets) in a named network namespace, this thread only"""
    here = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    there = os.open("/run/netns/" + ns, os.O_RDONLY)
    try:
        if LIBC.setns(there, 0x40000000):
            raise OSError(ctypes.get_errno(), "setns")
        yield
    finally:
        LIBC.setns(here, 0x40000000)
        os.close(here)
        os.close(there)


@contextlib.contextmanager
def fresh_ns(name="x"):
    """a new namespace for the body, deleted afterwards. IPVS keeps removed real servers for two minutes and searches them
    at each addition: a second run in the same namespace would be slowed down by the first"""
    n = "%s-%s" % (PFX, name)
    sh(["ip", "netns", "add", n])
    sh(["ip", "-n", n, "link", "set", "lo", "up"])
    try:
        with in_ns(n):
            yield n
    finally:
        sh(["ip", "netns", "del", n], False)


class Net:
    """hosts n1, n2 (daemons) and obs (sniffer), joined by one bridge per link; link k has the interface eth<k> in each host.
    Addresses 10.<100+k>.0.{1,2,9}/16; VIPs of link k are 10.<100+k>.(1+i/200).(1+i%200)."""

    def __init__(self, links=1, hosts=("n1", "n2", "obs")):
        self.hosts, self.links = hosts, links
        self.ns = {h: "%s-%s" % (PFX, h) for h in hosts + ("sw",)}
        for n in self.ns.values():
            sh(["ip", "netns", "add", n])
        atexit.register(self.close)
        b = {n: ["link set lo up"] for n in self.ns.values()}
        sw = self.ns["sw"]
        for k in range(links):
            b[sw].append("link add br%d type bridge mcast_snooping 0" % k)
            b[sw].append("link set br%d up" % k)
            for i, h in enumerate(hosts):
                p = "%s.%d" % (h, k)
                b[sw].append("link add %s type veth peer name eth%d netns %s" % (p, k, self.ns[h]))
                b[sw].append("link set %s master br%d up" % (p, k))
                b[self.ns[h]].append("addr add %s/16 dev eth%d" % (self.addr(h, k), k))
                b[self.ns[h]].append("link set eth%d up" % k)
        for n in self.ns.values():
            sh(
                [
                    "ip",
                    "netns",
                    "exec",
                    n,
                    "sysctl",
                    "-qw",
                    "net.ipv6.conf.all.disable_ipv6=1",
                    "net.ipv6.conf.default.disable_ipv6=1",
                ],
                False,
            )
        for n in [sw] + [self.ns[h] for h in hosts]:
            sh(["ip", "-n", n, "-batch", "-"], input="\n".join(b[n]) + "\n")
        time.sleep(0.3)

    def addr(self, h, k=0):
        return "10.%d.0.%d" % (100 + k, {"n1": 1, "n2": 2, "obs": 9}[h])

    def vip(self, i):
        return "10.%d.%d.%d" % (100 + i // 255, 1 + (i % 255) // 200, 1 + (i % 255) % 200)

    def mac(self, h, k=0):
        return sh(["ip", "netns", "exec", self.ns[h], "cat", "/sys/class/net/eth%d/address" % k]).strip()

    def flush(self, h):
        """remove VIPs and virtual MACs that a killed daemon left behind"""
        for k in range(self.links):
            for r in ("10.%d.1.0/24", "10.%d.2.0/24"):
                sh(["ip", "-n", self.ns[h], "addr", "flush", "dev", "eth%d" % k, "to", r % (100 + k)], False)
        shown = sh(["ip", "-n", self.ns[h], "-o", "link", "show", "type", "macvlan"])
        stacked = re.findall(r"^\d+: ([^@]+)@eth", shown, re.M)
        sh(["ip", "-n", self.ns[h], "-batch", "-"], input="".join("link del %s\n" % name for name in stacked))

    def vips(self, h):
        return set(re.findall(r"inet (10\.\d+\.[12]\.\d+)/", sh(["ip", "-n", self.ns[h], "-4", "addr"])))

    def close(self):
        for d in list(Daemon.live):
            d.kill()
        for n in self.ns.values():
            sh(["ip", "netns", "del", n], False)


@atexit.register
def _rm():
    shutil.rmtree(TMP, True)


def _term(*_):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(143)  # the cleanup at exit must not be interrupted


signal.signal(signal.SIGTERM, _term)
if not os.path.exists("/dev/log"):
    print(
        "note: no /dev/log here: give keepalived -G, or each log line goes to the (slow) console and is measured too",
        file=sys.stderr,
    )


def floor():
    """floor.c, compiled on first use (needs cc)"""
    if os.environ.get("FLOOR"):
        return os.environ["FLOOR"]
    p = TMP + "/floor"
    if not os.path.exists(p):
        sh(["cc", "-O2", "-static", "-o", p, HERE + "/floor.c"])
    return p


def measured(argv, ns=None):
    """run to the end: wall ms, cpu ms, peak RSS KiB, exit status"""
    pre = (["ip", "netns", "exec", ns] if ns else []) + [floor(), "run"]
    e = (
        subprocess.run(
            pre + argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        .stderr.split(b"\n")[-2]
        .split()
    )
    return int(e[0]) / 1e6, int(e[1]) / 1e3, int(e[2]), int(e[3])


# ---------------------------------------------------------------- daemons
class Daemon:
    live = []

    def __init__(self, cmd, conf, ns=None, tag="d", prefix=(), extra=()):
        self.dir = tempfile.mkdtemp(prefix=tag, dir=TMP)
        self.conf = self.dir + "/conf"
        open(self.conf, "w").write(conf)
        v = dict(conf=self.conf, pid=self.dir + "/pid", vpid=self.dir + "/vpid", cpid=self.dir + "/cpid")
        a = cmd.split()
        a = (
            [x.format(**v) for x in a]
            if "{conf}" in cmd
            else a + ["-n", "-l", "-f", v["conf"], "-p", v["pid"], "-r", v["vpid"], "-c", v["cpid"]]
        )
        a = list(prefix) + a + list(extra)

        # enter the namespace in the child itself, so that the measured start is the exec of the daemon itself
        def pre():
            if ns:
                fd = os.open("/run/netns/" + ns, os.O_RDONLY)
                LIBC.setns(fd, 0x40000000)
                os.close(fd)

        self.log = open(self.dir + "/log", "wb")
        self.t0 = now()
        self.p = subprocess.Popen(
            a,
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
            start_new_session=True,
            preexec_fn=pre,
        )
        Daemon.live.append(self)

    def logs(self):
        return open(self.dir + "/log", errors="replace").read()

    def pids(self):
        """all processes of the daemon's session, the first process first"""
        out = []
        for e in os.listdir("/proc"):
            if e.isdigit():
                try:
                    f = open("/proc/%s/stat" % e).read()
                except OSError:
                    continue
                r = f.rsplit(")", 1)[1].split()
                if int(r[3]) == self.p.pid and r[0] != "Z":
                    out.append(int(e))
        return sorted(out, key=lambda x: (x != self.p.pid, x))

    def kill(self):
        """kill -9 without a farewell advert: freeze the parent, kill the children, then the parent"""
        t = None
        if self.p.poll() is None:
            pids = self.pids()
            t = self.kill_pids(pids)
            self.p.wait(10)
        if self in Daemon.live:
            Daemon.live.remove(self)
        return t

    def kill_pids(self, pids):
        if len(pids) > 1:
            os.kill(pids[0], signal.SIGSTOP)
        t = now()
        for x in pids[1:] + pids[:1]:
            try:
                os.kill(x, signal.SIGKILL)
            except ProcessLookupError:
                pass
        return t

    def term(self, limit=20):
        t = now()
        self.p.send_signal(signal.SIGTERM)
        try:
            self.p.wait(limit)
        except subprocess.TimeoutExpired:
            self.kill()
        if self in Daemon.live:
            Daemon.live.remove(self)
        return t, now()

    def cpu_ns(self):
        """CPU time of all threads of all its processes, and of the children they have reaped"""
        s = 0
        for p in self.pids():
            try:
                for t in os.listdir("/proc/%d/task" % p):
                    s += int(open("/proc/%d/task/%s/schedstat" % (p, t)).read().split()[0])
                r = open("/proc/%d/stat" % p).read().rsplit(")", 1)[1].split()
                s += (int(r[13]) + int(r[14])) * 10_000_000
            except OSError:
                pass
        return s

    def mem_kb(self):
        rss = pss = priv = 0
        for p in self.pids():
            try:
                t = open("/proc/%d/smaps_rollup" % p).read()
            except OSError:
                continue

            def g(k):
                return int(re.search(r"^%s:\s+(\d+)" % k, t, re.M)[1])

            rss += g("Rss")
            pss += g("Pss")
            priv += g("Private_Dirty")
        return rss, pss, priv


# ---------------------------------------------------------------- observers
class AddrWatch(threading.Thread):
    """RTM_NEWADDR / RTM_DELADDR of a namespace with the time they were read"""

    def __init__(self, ns):
        super().__init__(daemon=True)
        with in_ns(ns):
            self.s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
            self.s.bind((0, 0x10))
        self.s.setsockopt(socket.SOL_SOCKET, 33, 32 << 20)
        self.ev, self.stop_, self.cv = [], False, threading.Condition()
        self.start()

    def run(self):
        while not self.stop_:
            if not select.select([self.s], [], [], 0.5)[0]:
                continue
            try:
                b = self.s.recv(1 << 17)
            except OSError:
                continue
            t = now()
            o = 0
            new = []
            while o + 16 <= len(b):
                ln, ty = struct.unpack_from("=IH", b, o)
                if ln < 16:
                    break
                if ty in (20, 21):
                    a = o + 24
                    while a + 4 <= o + ln:
                        al, at = struct.unpack_from("=HH", b, a)
                        if al < 4:
                            break
                        if at == 2:
                            new.append((t, ty == 20, socket.inet_ntoa(b[a + 4 : a + 8])))
                            break
                        a += (al + 3) & ~3
                o += (ln + 3) & ~3
            with self.cv:
                self.ev += new
                self.cv.notify_all()

    def clear(self):
        with self.cv:
            self.ev = []

    def wait(self, want, add=True, limit=30):
        """{address: time} once all wanted addresses were added (removed), or those seen by the time limit"""
        end = time.monotonic() + limit
        with self.cv:
            while True:
                got = {}
                for t, isadd, ip in self.ev:
                    if isadd == add and ip in want and ip not in got:
                        got[ip] = t
                if len(got) == len(want) or time.monotonic() > end:
                    return got
                self.cv.wait(min(0.5, max(0.001, end - time.monotonic())))

    def close(self):
        self.stop_ = True
        self.join()
        self.s.close()


class Sniff:
    """AF_PACKET socket with the kernel's receive times; kinds: vrrp (optionally only some vrids) and/or arp"""

    def __init__(self, ns, dev, vrrp=True, arp=True, vrids=None):
        code = [(0x28, 0, 0, 12)]  # ldh [12]
        tail = []  # built backwards below
        p = []
        # 1: jeq arp -> accept/reject ; 2: jeq ip ; 3: ldb [23] ; 4: jeq 112 ; 5: ldb [35] ; 6..: vrids ; reject ; accept
        vr = list(vrids or [])
        n = 6 + len(vr) if vr else 5
        rej, acc = n, n + 1
        p.append((0x28, 0, 0, 12))
        tgt = acc if arp else rej
        p.append((0x15, tgt - 2, 0, 0x806))
        p.append((0x15, 0, rej - 3, 0x800 if vrrp else 0xFFFF))
        p.append((0x30, 0, 0, 23))
        if vr:
            p.append((0x15, 0, rej - 5, 112))
            p.append((0x30, 0, 0, 35))
            for i, v in enumerate(vr):
                p.append((0x15, acc - (6 + i) - 1, 0, v))
        else:
            p.append((0x15, acc - 5, 0, 112))
        p.append((6, 0, 0, 0))
        p.append((6, 0, 0, 0x40000))
        raw = b"".join(struct.pack("HBBI", *x) for x in p)
        self.buf = ctypes.create_string_buffer(raw)
        prog = struct.pack("HxxxxxxP", len(p), ctypes.addressof(self.buf))
        with in_ns(ns):
            self.s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            self.s.setsockopt(socket.SOL_SOCKET, 26, prog)
            self.s.setsockopt(socket.SOL_SOCKET, 33, 256 << 20)
            self.s.setsockopt(socket.SOL_SOCKET, 35, 1)
            self.s.bind((dev, 3))
        self.s.setblocking(False)
        # the kernel starts to stamp shortly after the option is set; earlier packets would get the time they were read at
        time.sleep(0.01)
        self.drain()

    def drain(self):
        """[(time, kind, vrid or sender address, source address, prio/src mac)]"""
        out = []
        while True:
            try:
                b, anc, _, _ = self.s.recvmsg(128, 64)
            except BlockingIOError:
                return out
            t = 0
            for l, ty, d in anc:
                if l == 1 and ty == 35:
                    s, ns_ = struct.unpack("qq", d[:16])
                    t = s * 10**9 + ns_
            if b[12:14] == b"\x08\x06":
                out.append((t, "arp", socket.inet_ntoa(b[28:32]), b[6:12].hex(":"), 0))
            else:
                out.append((t, "vrrp", b[35], socket.inet_ntoa(b[26:30]), b[36]))

    def close(self):
        self.s.close()


# ---------------------------------------------------------------- configurations
def vrrp_conf(net, n, prio, adv, version=3, state="BACKUP", glob="", extra="", changed=()):
    o = [
        "global_defs {\n  router_id bench\n  vrrp_version %d\n  vrrp_garp_master_delay 1\n%s}\n"
        % (version, glob)
    ]
    for i in range(n):
        o.append(
            "vrrp_instance V%d {\n  state %s\n  interface eth%d\n  virtual_router_id %d\n  priority %d\n  advert_int %s\n%s  virtual_ipaddress {\n    %s/32\n%s  }\n}\n"
            % (
                i,
                state,
                i // 255,
                i % 255 + 1,
                prio,
                adv,
                extra,
                net.vip(i),
                "    10.%d.2.%d/32\n" % (100 + i // 255, 200) if i in changed else "",
            )
        )
    return "".join(o)


def lvs_conf(
    nvs,
    nrs=4,
    delay=5,
    base="10.0",
    rs="172",
    check="TCP_CHECK",
    rsport=80,
    changed=(),
    glob="",
    alpha=False,
    port=80,
    rsaddr=None,
):
    o = ["global_defs {\n  router_id bench\n%s}\n" % glob]
    for i in range(nvs):
        o.append(
            "virtual_server 10.%d.%d.%d %d {\n  delay_loop %s\n  lb_algo rr\n  lb_kind NAT\n  protocol TCP\n%s"
            % (i // 62500, i // 250 % 250, i % 250 + 1, port, delay, "  alpha\n" if alpha else "")
        )
        for j in range(nrs):
            k = i * nrs + j
            a = rsaddr(k) if rsaddr else "172.%d.%d.%d" % (16 + k // 62500, k // 250 % 250, k % 250 + 1)
            o.append(
                "  real_server %s %d {\n    weight %d\n    %s {\n      connect_timeout 3\n      retry 0\n    }\n  }\n"
                % (a, rsport, 2 if k in changed else 1, check)
                if check
                else "  real_server %s %d {\n    weight %d\n  }\n" % (a, rsport, 2 if k in changed else 1)
            )
        o.append("}\n")
    return "".join(o)
