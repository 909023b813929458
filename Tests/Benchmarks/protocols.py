"""HTTP/2 and TLS: Farebox selling by session beside nginx, HAProxy, nghttpx and h2o that only pass on.

h2load is the client for HTTP/2 and for HTTP/1.1 over TLS, s_time of OpenSSL for handshakes that resume nothing. One certificate
(ECDSA, P-256) serves all proxies, and all speak TLS 1.3 (nginx 1.22 has to be told); upstreams are asked over HTTP/1.1 with connections
kept.
"""

import os
import re
import signal
import subprocess
import sys

import idle
from harness import CONFIGURATION, Farebox, free_port, open_session
from prepaid import PrepaidWallet
from processes import LOAD_CORE, PROXY_CORE, cpu_nanoseconds, pinned, wait_for_port

WORKS = ["session-h2c", "session-tls-h1", "session-tls-h2", "handshake-tls"]
CLIENTS, STREAMS = 32, 10


class Certificate:
    def __init__(self, folder):
        self.chain, self.key, self.both = folder / "bench.pem", folder / "bench.key", folder / "bench.both"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30", "-subj", "/CN=localhost",
             "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", str(self.key), "-out", str(self.chain)],
            check=True, capture_output=True)
        self.both.write_bytes(self.chain.read_bytes() + self.key.read_bytes())


class Rival:
    """A proxy with a plain HTTP/2 listener and a TLS one."""

    def __init__(self, name, folder, upstream, certificate):
        self.name, self.plain, self.tls = name, free_port(), free_port()
        command = getattr(self, name)(folder / f"protocols-{name}", folder, upstream, certificate)
        self.process = subprocess.Popen(pinned(PROXY_CORE, command), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.pid = self.process.pid
        wait_for_port(self.plain)
        wait_for_port(self.tls)

    def nginx(self, config, folder, upstream, certificate):
        paths = " ".join(f"{kind}_temp_path {config}-{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        config.write_text(f"""
            worker_processes 1; worker_rlimit_nofile 65536; daemon off; pid {config}.pid; error_log {config}.log;
            events {{ worker_connections 24000; }}
            http {{ access_log off; keepalive_requests 100000000; keepalive_timeout 600s; http2_max_requests 100000000; {paths}
              ssl_certificate {certificate.chain}; ssl_certificate_key {certificate.key}; ssl_protocols TLSv1.2 TLSv1.3;
              upstream api {{ server 127.0.0.1:{upstream}; keepalive 512; keepalive_requests 100000000; }}
              server {{ listen 127.0.0.1:{self.plain} http2; listen 127.0.0.1:{self.tls} ssl http2;
                location / {{ proxy_pass http://api; proxy_http_version 1.1; proxy_set_header Connection ""; }} }} }}""")
        return ["nginx", "-c", str(config), "-p", str(folder)]

    def haproxy(self, config, folder, upstream, certificate):
        config.write_text(f"""
global
  nbthread 1
  maxconn {idle.reach(24_000) + 400}
  tune.h2.max-concurrent-streams 100
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  http-reuse always
frontend f
  bind 127.0.0.1:{self.plain} proto h2
  bind 127.0.0.1:{self.tls} ssl crt {certificate.both} alpn h2,http/1.1
  default_backend b
backend b
  server s 127.0.0.1:{upstream} pool-max-conn 512
""")
        return ["haproxy", "-f", str(config), "-db"]

    def nghttpx(self, config, folder, upstream, certificate):
        config.write_text("")
        return ["nghttpx", f"--conf={config}", f"--frontend=127.0.0.1,{self.plain};no-tls", f"--frontend=127.0.0.1,{self.tls}",
                f"--backend=127.0.0.1,{upstream}", "--workers=1", "--single-process", "--backend-connections-per-host=512",
                f"--errorlog-file={config}.log", "--accesslog-file=/dev/null", str(certificate.key), str(certificate.chain)]

    def h2o(self, config, folder, upstream, certificate):
        user = "user: root" if os.getuid() == 0 else ""
        config.write_text(f"""
num-threads: 1
{user}
max-connections: 24000
http2-max-concurrent-requests-per-connection: 100
listen:
  host: 127.0.0.1
  port: {self.plain}
hosts:
  default:
    listen:
      host: 127.0.0.1
      port: {self.tls}
      ssl: {{ certificate-file: {certificate.chain}, key-file: {certificate.key} }}
    paths:
      /:
        proxy.reverse.url: http://127.0.0.1:{upstream}/
        proxy.timeout.keepalive: 60000
""")
        return ["h2o", "-m", "worker", "-c", str(config)]


class Protocols:
    def __init__(self, options, folder, upstream):
        self.options, self.folder = options, folder
        certificate = Certificate(folder)
        self.tls = free_port()
        configuration = CONFIGURATION.replace('[[currency]]', f"""[[listen]]
address = "127.0.0.1:{self.tls}"
[listen.tls]
certificates = [{{{{ chain = "{certificate.chain}", key = "{certificate.key}" }}}}]

[[currency]]""", 1)
        configuration = configuration.replace('[[upstream]]', '[[upstream]]\nmax-idle = 512', 1)
        # Connections that say nothing are to be counted, and not ended.
        configuration = configuration.replace('header-read = "2 s"', 'header-read = "60 s"')
        # One session pays for everything, so it has more requests under way than a session usually may.
        configuration = configuration.replace('path = "/paid"', f'path = "/paid"\nmax-in-flight = {2 * CLIENTS * STREAMS}', 1)
        self.farebox = Farebox(options.farebox, folder / "farebox-protocols", upstream, workers=1, prefix=pinned(PROXY_CORE, []), configuration=configuration)
        wallet = PrepaidWallet.new()
        self.farebox.create_wallet(wallet, "1000000 USDC")
        self.session = open_session(self.farebox, wallet, "/paid", 100_000_000_000).short_form
        self.rivals = [Rival(name, folder, upstream, certificate) for name in ("nginx", "haproxy", "nghttpx", "h2o")]

    def stop(self):
        for rival in self.rivals:
            rival.process.send_signal(signal.SIGQUIT if rival.name == "nginx" else signal.SIGTERM)
        self.farebox.process.send_signal(signal.SIGTERM)
        for process in [rival.process for rival in self.rivals] + [self.farebox.process]:
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()

    def proxies(self):
        """Gives each proxy's name, itself, its plain port and its TLS one."""
        yield "farebox", self.farebox, self.farebox.port, self.tls
        for rival in self.rivals:
            yield rival.name, rival, rival.plain, rival.tls

    def measure(self, work):
        """Gives each proxy's name and figures, one after the other."""
        for name, proxy, plain, tls in self.proxies():
            before = cpu_nanoseconds(proxy.pid)
            if work == "handshake-tls":
                count, seconds, p50, p99 = self.handshakes(tls)
            else:
                count, seconds, p50, p99 = self.h2load(work, plain, tls, paid=name == "farebox")
            cpu = cpu_nanoseconds(proxy.pid) - before
            yield name, {"cpu_us": cpu / 1000 / count, "rps": count / seconds, "p50_us": p50, "p99_us": p99, "gb_per_cpu_s": None}

    def h2load(self, work, plain, tls, paid):
        log = self.folder / "h2load.log"
        log.unlink(missing_ok=True)
        url = f"http://127.0.0.1:{plain}/paid" if work == "session-h2c" else f"https://127.0.0.1:{tls}/paid"
        shape = ["--h1", "-c64", "-m1"] if work == "session-tls-h1" else [f"-c{CLIENTS}", f"-m{STREAMS}"]
        fields = ["-H", f"Prepaid-Session: {self.session}"] if paid else []
        command = ["h2load", "-t1", *shape, "-D", str(self.options.seconds), f"--log-file={log}", *fields, url]
        output = subprocess.run(pinned(LOAD_CORE, command), capture_output=True, text=True, check=True).stdout
        seconds = float(self.options.seconds)
        succeeded = int(re.search(r"(\d+) succeeded", output).group(1))
        good = int(re.search(r"status codes: (\d+) 2xx", output).group(1))
        # Those that were under way when the time was over count as neither, or as one of both.
        if good == 0 or abs(good - succeeded) > CLIENTS * STREAMS or re.search(r"[1-9]\d* [345]xx", output):
            sys.exit(f"{work}: {output}")
        times = sorted(int(line.split("\t")[2]) for line in log.read_text().splitlines())
        return good, seconds, times[len(times) // 2], times[len(times) * 99 // 100]

    def handshakes(self, tls):
        """Opens connections that resume nothing, with one request each, by several clients at once."""
        command = ["openssl", "s_time", "-connect", f"127.0.0.1:{tls}", "-new", "-www", "/small", "-time", str(self.options.seconds)]
        clients = [subprocess.Popen(pinned(LOAD_CORE, command), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for _ in range(8)]
        count, seconds = 0, 0.0
        for client in clients:
            output = client.communicate(timeout=60)[0]
            found = re.search(r"(\d+) connections in ([\d.]+) real seconds", output)
            if client.returncode != 0 or not found:
                sys.exit(f"handshake-tls: {output}")
            count, seconds = count + int(found.group(1)), max(seconds, float(found.group(2)))
        return count, seconds, None, None
