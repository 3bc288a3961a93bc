"""Apache RocketMQ's own Python client against a cluster: `check.py HOST:PORT,...` (see ../README.md)."""
import collections, os, subprocess, sys, threading, time, traceback

from rocketmq import (ClientConfiguration, ConsumeResult, Credentials, FilterExpression, Message, MessageListener,
                      Producer, PushConsumer, SimpleConsumer, TransactionChecker, TransactionResolution)

CLIENT = os.environ.get("CLIENT", "rocketmq-python")
TLS = os.environ.get("TLS") == "1"
ENDPOINTS = sys.argv[-1].replace(",", ";")
TOPIC, FIFO = f"{CLIENT}-mixed", f"{CLIENT}-fifo"
failed = False


def check(name, action):
    global failed
    try:
        print(CLIENT, name, "PASS", action() or "", flush=True)
    except Exception as error:  # a check that fails must not keep the others from running
        failed = True
        traceback.print_exc()
        print(CLIENT, name, "FAIL", repr(error)[:300], flush=True)


def configuration():
    return ClientConfiguration(ENDPOINTS, Credentials())


def producer(topics, checker=None):
    started = Producer(configuration(), topics, checker=checker, tls_enable=TLS)
    started.startup()
    return started


def simple(group, topic, expression="*"):
    started = SimpleConsumer(configuration(), group, {topic: FilterExpression(expression)}, 2, tls_enable=TLS)
    started.startup()
    return started


def message(topic, body, **fields):
    made = Message()
    made.topic, made.body = topic, body.encode()
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def receive(consumer, count, seconds=90):
    """`count` messages, each settled; more or fewer are an error. This client asks a queue by chance each time, so that
    the one with the message may be left out for long."""
    got, deadline = [], time.monotonic() + seconds
    while len(got) < count and time.monotonic() < deadline:
        for one in consumer.receive(32, 15) or []:
            consumer.ack(one)
            got.append(one)
    assert len(got) == count, f"{len(got)} of {count} messages"
    return got


class Listener(MessageListener):
    def __init__(self, decide):
        self.decide, self.got, self.changed = decide, [], threading.Condition()

    def consume(self, message):
        with self.changed:
            self.got.append(message)
            self.changed.notify_all()
            return ConsumeResult.SUCCESS if self.decide(message) else ConsumeResult.FAILURE

    def wait(self, enough, seconds=30):
        with self.changed:
            assert self.changed.wait_for(lambda: enough(self.got), seconds), f"{len(self.got)} deliveries"


def send_and_receive():
    consumer, sender = simple("py-simple", TOPIC), producer((TOPIC,))
    ids = set()
    for n in range(20):
        one = message(TOPIC, f"body-{n}", tag="a" if n % 2 else "b", keys=f"key-{n}")
        one.add_property("number", str(n))
        ids.add(sender.send(one).message_id)
    futures = [sender.send_async(message(TOPIC, f"body-{n}", tag="a", keys=f"key-{n}")) for n in range(20, 40)]
    ids.update(future.result(10).message_id for future in futures)
    assert len(ids) == 40
    got = receive(consumer, 40)
    assert {one.message_id for one in got} == ids
    for one in got:
        number = one.body.decode().removeprefix("body-")
        assert list(one.keys) == [f"key-{number}"] and one.tag in ("a", "b"), (one.keys, one.tag)
        assert int(number) >= 20 or one.properties["number"] == number
    assert not consumer.receive(32, 15), "a settled message came again"
    sender.shutdown()
    consumer.shutdown()
    return "40 messages sent, received and settled"


def tag_filter():
    consumer, sender = simple("py-filter", TOPIC, "red || blue"), producer((TOPIC,))
    for n, tag in enumerate(["red", "green", "blue", "green", "red"]):
        sender.send(message(TOPIC, str(n), tag=tag))
    got = receive(consumer, 3)
    assert sorted(one.body.decode() for one in got) == ["0", "2", "4"]
    sender.shutdown()
    consumer.shutdown()


def push_with_retry():
    seen = collections.Counter()

    def decide(one):
        seen[one.message_id] += 1
        return one.body != b"fails once" or seen[one.message_id] > 1

    listener = Listener(decide)
    consumer = PushConsumer(configuration(), "py-push", listener, {TOPIC: FilterExpression("push")}, tls_enable=TLS)
    consumer.startup()
    sender = producer((TOPIC,))
    bad = sender.send(message(TOPIC, "fails once", tag="push")).message_id
    for n in range(10):
        sender.send(message(TOPIC, str(n), tag="push"))
    listener.wait(lambda got: len(got) == 12)
    attempts = [one.delivery_attempt for one in listener.got if one.message_id == bad]
    assert attempts == [1, 2], attempts
    sender.shutdown()
    consumer.shutdown()
    return "11 messages, one of them twice"


def fifo():
    listener = Listener(lambda one: True)
    consumer = PushConsumer(configuration(), "py-fifo", listener, {FIFO: FilterExpression()}, tls_enable=TLS)
    consumer.startup()
    sender = producer((FIFO,))
    for n in range(10):
        for group in ("x", "y", "z"):
            sender.send(message(FIFO, f"{group}-{n}", message_group=group))
    listener.wait(lambda got: len(got) >= 30)
    for group in ("x", "y", "z"):
        order = [one.body.decode() for one in listener.got if one.message_group == group]
        assert order == [f"{group}-{n}" for n in range(10)], order
    sender.shutdown()
    consumer.shutdown()
    return "3 groups of 10 in order"


def delay():
    consumer, sender = simple("py-delay", TOPIC, "later"), producer((TOPIC,))
    due = int(time.time()) + 3
    sender.send(message(TOPIC, "due", tag="later", delivery_timestamp=due))
    recalled = sender.send(message(TOPIC, "recalled", tag="later", delivery_timestamp=due + 1))
    assert sender.recall_message(TOPIC, recalled.recall_handle) == recalled.message_id
    brought, deadline = [], time.monotonic() + 90
    while not brought and time.monotonic() < deadline:
        asked = time.time()
        brought = consumer.receive(32, 15)
    # What the broker answers for: the queue may have been asked only long after the message was due.
    early, late = due - time.time(), time.time() - max(due, asked)
    assert [one.body for one in brought] == [b"due"] and early <= 0 and late < 1, (brought, early, late)
    consumer.ack(brought[0])
    for _ in range(6):
        assert not consumer.receive(32, 15), "the recalled message came"
    sender.shutdown()
    consumer.shutdown()
    return f"{late * 1000:.0f} ms after it was due and its queue asked"


class Checker(TransactionChecker):
    def __init__(self):
        self.asked = []

    def check(self, message):
        self.asked.append(message.body)
        return TransactionResolution.COMMIT


def half():
    """What the producer does that is killed: it says nothing of the last transaction, and no goodbye."""
    first = producer((TOPIC,), Checker())
    for body, end in (("committed", "commit"), ("rolled back", "rollback"), ("forgotten", None)):
        open_one = first.begin_transaction()
        first.send(message(TOPIC, body, tag="half"), open_one)
        if end:
            getattr(open_one, end)()
    print("sent", flush=True)
    time.sleep(600)


def killed(what):
    """Runs a part of this program until it says that it has sent, and ends it with SIGKILL."""
    child = subprocess.Popen([sys.executable, __file__, what, ENDPOINTS], stdout=subprocess.PIPE, text=True)
    try:
        said = child.stdout.readline().strip()
    finally:
        child.kill()
        child.wait()
    assert said == "sent", f"the producer to be killed said {said!r}"


def transaction():
    consumer = simple("py-half", TOPIC, "half")
    killed("half")
    checker = Checker()
    second = producer((TOPIC,), checker)
    bodies = {one.body for one in receive(consumer, 2, 60)}
    assert bodies == {b"committed", b"forgotten"}, bodies
    assert checker.asked == [b"forgotten"], checker.asked
    second.shutdown()
    consumer.shutdown()
    return "commit, rollback, and a check-back of a killed producer answered by another"


def untrusted():
    """Without the authority this client must not send: `send-receive` shows that with it it does."""
    environment = {name: value for name, value in os.environ.items() if name != "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"}
    child = subprocess.run([sys.executable, __file__, "send", ENDPOINTS], env=environment, capture_output=True, text=True, timeout=60)
    assert child.returncode == 3, child.stderr[-300:]
    return "a certificate of an unknown authority is refused"


def only_send():
    try:
        producer((TOPIC,)).send(message(TOPIC, "untrusted"))
    except Exception:
        os._exit(3)
    os._exit(0)


ALL = {"send-receive": send_and_receive, "tag-filter": tag_filter, "push-retry": push_with_retry, "fifo": fifo,
       "delay-recall": delay, "transaction": transaction}
ENCRYPTED = ALL | {"untrusted": untrusted}
if "send" in sys.argv:
    only_send()
if "half" in sys.argv:
    half()
for name, action in (ENCRYPTED if TLS else ALL).items():
    check(name, action)
os._exit(1 if failed else 0)  # the client's threads do not all end by themselves
