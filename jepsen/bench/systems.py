"""What the benches run: three nodes of Weir, or of an incumbent, on loopback.

The incumbents' scripts are looked for in $PEERS (default ../shared/peers), Weir's binary in
$WEIR (default target/release/weir). Every system runs alone and is ended by its own process ids.
"""

import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PEERS = Path(os.environ.get("PEERS", ROOT.parent / "shared" / "peers")).resolve()
BINARY = os.environ.get("WEIR", ROOT / "target" / "release" / "weir")
TICKS = os.sysconf("SC_CLK_TCK")
ADMIN_PORT_BASE = 16080
SYSTEMS = ["weir-async", "weir-sync", "kafka", "kafka-fsync", "nats", "nats-fsync"]


def cpu_seconds(pids):
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICKS


def loop_ms():
    """A loop of fixed length: whether the machine is as fast as a minute ago."""
    began, total = time.monotonic(), 0
    for number in range(2_000_000):
        total += number
    return (time.monotonic() - began) * 1e3


def resident_mib(pids):
    pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids)
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def anonymous_mib(pids):
    """What they keep in memory beside mapped files."""
    status = "".join(Path(f"/proc/{pid}/status").read_text() for pid in pids)
    return sum(int(kib) for kib in re.findall(r"RssAnon:\s+(\d+)", status)) / 1024


def end(nodes):
    """Kills processes, by their open ids, and comes back when they are gone."""
    for node in nodes:
        signal.pidfd_send_signal(node, signal.SIGKILL)
    for node in nodes:
        select.select([node], [], [])
        os.close(node)


def franz(bootstrap, verb, *arguments):
    """The command that runs one verb of the Go client."""
    return [ROOT / "jepsen/clients/run", "exec", "franz-go", verb, bootstrap, *arguments]


class Weir:
    """`weir dev` with `options`; `mode` is the flush mode of its topics, sync or async."""

    protocol = "kafka"

    def __init__(self, mode, nodes=3, *options):
        self.nodes = nodes
        self.options = options
        self.data = None
        self.own = []
        self.configs = [f"weir.flush={mode}", f"min.insync.replicas={min(nodes, 2)}"]

    def start(self):
        self.data = self.data or tempfile.mkdtemp(prefix="weir-bench-")
        command = [BINARY, "dev", "--data", self.data, "--port-base", "15092", "--nodes",
                   str(self.nodes), "--admin-port-base", str(ADMIN_PORT_BASE), *self.options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        for line in self.process.stdout:
            if "weir: ready" in line:
                break
        else:
            sys.exit("weir dev ended before it was ready")
        nodes = self.cluster()
        self.bootstrap = ",".join(node["kafka"] for node in nodes)
        self.rocketmq = ";".join(node["rocketmq"] for node in nodes)
        self.admin = ",".join(node["admin"] for node in nodes)
        self.pids = [node["pid"] for node in nodes]
        self.directories = [Path(node["data"]).parent for node in nodes]

    def cluster(self):
        return json.loads(Path(self.data, "cluster.json").read_text())["nodes"]

    def refresh(self):
        """The process ids after nodes were started anew."""
        self.pids = [node["pid"] for node in self.cluster()]
        return self.pids

    def weir(self, *arguments):
        """One of the operator's commands."""
        command = [BINARY, *arguments, "--admin", self.admin]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    def answers(self, *arguments):
        """Whether such a command is answered, by all nodes whose part is needed."""
        command = [BINARY, *arguments, "--admin", self.admin]
        done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        return done.returncode == 0 and "is missing" not in done.stderr

    def create(self, topic, *configs):
        """A topic of three partitions, each on all nodes."""
        configs = [x for config in [*self.configs, *configs] for x in ("--config", config)]
        self.weir("topic", "create", topic, "--partitions", "3", *configs)

    def kill(self):
        """Ends every node and the supervisor as `kill -9` does; the data stays.

        Comes back when they are gone: until then their ports are taken.
        """
        nodes = [os.pidfd_open(pid) for pid in self.pids]
        self.process.kill()
        self.process.wait()
        end(nodes)

    def kill_node(self, number):
        """Ends one node as `kill -9` does. Started with `--no-restart`, it stays away."""
        end([os.pidfd_open(self.pids[number - 1])])

    def start_node(self, number):
        """Starts one that was killed, as a process of our own; gives its id."""
        node = subprocess.Popen([BINARY, "serve", "--config", self.directories[number - 1] / "weir.toml"])
        self.own.append(node)
        self.pids[number - 1] = node.pid
        return node.pid

    def peer_port(self, number):
        """Where the other nodes send to."""
        config = (self.directories[number - 1] / "weir.toml").read_text()
        return int(re.search(r'\[peer\]\nlisten = ".*:(\d+)"', config)[1])

    def stop(self):
        for node in self.own:
            node.send_signal(signal.SIGTERM)
            node.wait(timeout=60)
        self.process.send_signal(signal.SIGINT)
        self.process.wait(timeout=60)
        self.wipe()

    def wipe(self):
        shutil.rmtree(self.data, ignore_errors=True)


class Peer:
    """An incumbent, by its script."""

    nodes = 3

    def __init__(self, script, fsync):
        self.script = [PEERS / f"{script}.sh"]
        self.options = ["--fsync"] if fsync else []

    def start(self):
        command = self.script + ["start", str(self.nodes)] + self.options
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        self.files = re.findall(r"pidfile=(\S+)", output)
        self.pids = [self.pid(number) for number in range(1, len(self.files) + 1)]

    def pid(self, number):
        return int(Path(self.files[number - 1]).read_text().split()[0])

    def kill_node(self, number):
        subprocess.run([*self.script, "kill", str(number)], check=True, capture_output=True)

    def start_node(self, number):
        subprocess.run([*self.script, "restart", str(number)], check=True, capture_output=True)
        self.pids[number - 1] = self.pid(number)
        return self.pids[number - 1]

    def stop(self):
        for verb in ["stop", "wipe"]:
            subprocess.run(self.script + [verb], check=False, capture_output=True)


class Kafka(Peer):
    protocol = "kafka"
    bootstrap = "127.0.0.1:19092,127.0.0.1:29092,127.0.0.1:39092"

    def __init__(self, fsync):
        super().__init__("kafka", fsync)
        self.configs = ["min.insync.replicas=2"] + (["flush.messages=1"] if fsync else [])


class Nats(Peer):
    protocol = "nats"
    bootstrap = "127.0.0.1:14222,127.0.0.1:24222,127.0.0.1:34222"
    configs = []

    def __init__(self, fsync):
        super().__init__("nats", fsync)

    def start(self):
        super().start()
        # Ports are open before the stream layer has elected its own leader.
        command = [PEERS / "peerbench.sh", "produce", "-p", "nats", "-addr", self.bootstrap,
                   "-topic", "warm", "-replicas", "3", "-n", "1", "-timeout", "10s"]
        for _ in range(6):
            if subprocess.run(command, capture_output=True, check=False).returncode == 0:
                return
        sys.exit("JetStream takes no message")


class RocketMq(Peer):
    """Acknowledges what is on the disk of a master and in the memory of its slave."""

    protocol = "rocketmq"
    rocketmq = "127.0.0.1:18081"

    def __init__(self):
        super().__init__("rocketmq", False)
        self.nodes, self.options = "ms", ["--sync-flush", "--proxy"]

    def create(self, topic):
        command = [PEERS / "rocketmq-tool.sh", "mqadmin", "updateTopic", "-n", "127.0.0.1:19876",
                   "-c", "DefaultCluster", "-t", topic, "-r", "8", "-w", "8"]
        subprocess.run(command, check=True, capture_output=True)


def system(name):
    kind, _, mode = name.partition("-")
    if kind == "weir":
        return Weir(mode)
    return {"kafka": Kafka, "nats": Nats}[kind](mode == "fsync")


def kafka_tool(bootstrap, *arguments, timeout=300):
    """Runs one of Kafka's own tools and gives what it printed."""
    environment = dict(os.environ, BOOTSTRAP=bootstrap)
    return subprocess.run([PEERS / "kafka-tool.sh", *arguments], env=environment,
                          capture_output=True, text=True, timeout=timeout).stdout


def create_topic(target, topic, partitions=1):
    """Makes a topic with the target's configs, or ends the bench: made on the first produce, it
    would have others."""
    configs = [x for config in target.configs for x in ("--config", config)]
    replicas = min(target.nodes, 3)
    size = ["--partitions", str(partitions), "--replication-factor", str(replicas)]
    if isinstance(target, Weir):
        # Kafka's own tool refuses configs that it does not know.
        target.weir("topic", "create", topic, *size, *configs)
        return
    output = kafka_tool(target.bootstrap, "topics", "--create", "--topic", topic, *size, *configs)
    if f"Created topic {topic}." not in output:
        sys.exit(f"topic {topic} was not made: {output.strip()}")
