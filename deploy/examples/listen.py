#!/usr/bin/python3
# A worker in Python, with nothing but the standard library.
import itertools, os, signal, socket, sys, time

manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
manager.connect(os.environ["NOTIFY_SOCKET"])
stop = []
signal.signal(signal.SIGTERM, lambda *_: stop.append(True))  # the running job may finish
most = int(os.environ.get("WORKERSD_MAX_REQUESTS", sys.maxsize))

manager.send(b"READY=1")
for job in itertools.count(1):
    manager.send(b"X_WORKERSD_BEGIN=job-%d" % job)
    time.sleep(float(sys.argv[1]))  # the work
    print("job", job, "done", flush=True)
    manager.send(b"X_WORKERSD_END=job-%d\nX_WORKERSD_RESULT=ok\nX_WORKERSD_COUNT=%d" % (job, job))
    if stop or job == most:
        break
