#!/usr/bin/python3
# A worker in Python with Debian's python3-systemd, which belongs to /usr/bin/python3.
import itertools, os, signal, sys, time
from systemd import daemon

stop = []
signal.signal(signal.SIGTERM, lambda *_: stop.append(True))  # the running job may finish
most = int(os.environ.get("WORKERSD_MAX_REQUESTS", sys.maxsize))

daemon.notify("READY=1")
for job in itertools.count(1):
    daemon.notify(f"X_WORKERSD_BEGIN=job-{job}")
    time.sleep(float(sys.argv[1]))  # the work
    print("job", job, "done", flush=True)
    daemon.notify(f"X_WORKERSD_END=job-{job}\nX_WORKERSD_RESULT=ok\nX_WORKERSD_COUNT={job}")
    if stop or job == most:
        break
