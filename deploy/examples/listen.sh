#!/bin/sh
# A worker in shell, with systemd-notify.
trap 'stop=1' TERM # the running job may finish
job=0
systemd-notify READY=1
until [ "$stop" ] || [ "$job" = "$WORKERSD_MAX_REQUESTS" ]; do
	job=$((job + 1))
	systemd-notify "X_WORKERSD_BEGIN=job-$job"
	sleep "$1" # the work
	echo "job $job done"
	systemd-notify "X_WORKERSD_END=job-$job" X_WORKERSD_RESULT=ok "X_WORKERSD_COUNT=$job"
done
