"""Result lines, and the check of a numbered sequence, for both Python clients."""
import os, subprocess, sys, time, traceback

CLIENT = os.environ.get("CLIENT", "python")
KILL = os.environ.get("KILL", "")
DELAYED_RECORDS = 200
failed = False


class Skip(Exception):
    """The check cannot run here; the text says why."""


def check(name, action):
    """Runs `action`, whose return value is the detail of the PASS line."""
    global failed
    try:
        print(f"{CLIENT} {name} PASS {action()}", flush=True)
    except Skip as reason:
        print(f"{CLIENT} {name} SKIP {reason}", flush=True)
    except Exception as error:  # a client library may raise anything; all of it is a failed check
        failed = True
        traceback.print_exc()
        print(f"{CLIENT} {name} FAIL {type(error).__name__}: {error}".replace("\n", " "), flush=True)


def kill(node):
    subprocess.run(["sh", "-c", KILL, "kill", str(node)], check=True)


def delayed_topic():
    """A topic with a queue group, for records that ask to come later."""
    if not (topic := os.environ.get("DELAYED")):
        raise Skip("needs a cluster that `run` starts")
    return topic


def asks_later(number):
    """The headers of a record: every second one asks to come a second or two later."""
    return [("weir.deliver.after", str(1000 + 5 * number).encode())] if number % 2 else []


def released(topic):
    """Waits until the copies of all that asked for it are in the log."""
    subprocess.run(["sh", "-c", os.environ["RELEASED"], "released", topic, str(DELAYED_RECORDS // 2)], check=True)


def in_order_once(values, count):
    """Raises unless `values` is 0..count, each once, in order."""
    if values == list(range(count)):
        return
    seen = set(values)
    raise AssertionError(f"{len(set(range(count)) - seen)} lost, {len(values) - len(seen)} duplicates, "
                         f"{sum(a > b for a, b in zip(values, values[1:]))} inversions in {len(values)} records")


def committed_all(seen, committed, ends):
    """Raises unless each partition's committed offset lies behind its last record and not behind its end.

    `seen` holds (partition, offset). Offsets need not be dense: control records take some and are never shown.
    """
    for partition, end in ends.items():
        last = max((offset for where, offset in seen if where == partition), default=-1)
        if last < 0 and committed[partition] < 0:
            continue  # nothing was read there, so there was nothing to commit
        if not last < committed[partition] <= end:
            raise AssertionError(f"partition {partition}: committed {committed[partition]}, last record {last}, end {end}")


def until(what, condition, seconds=60, state=lambda: ""):
    """Polls `condition` until it is true; longer than a session timeout, after which a lost member is given up.

    `state` is asked what to add to the failure.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {seconds} s {state()}")


def finish():
    sys.stdout.flush()
    os._exit(1 if failed else 0)  # a broken client's threads must not keep the process
