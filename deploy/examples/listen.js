#!/usr/bin/env node
// A worker in Node without packages. Node has no datagram sockets of AF_UNIX, so
// the words go down the pipe that every worker inherits.
const { writeSync } = require('node:fs');
const { setTimeout: sleep } = require('node:timers/promises');
const tell = (...lines) => writeSync(Number(process.env.WORKERSD_NOTIFY_FD), lines.join('\n') + '\n');

let stop = false;
process.on('SIGTERM', () => { stop = true; }); // the running job may finish
const most = Number(process.env.WORKERSD_MAX_REQUESTS || Infinity);

(async () => {
  tell('READY=1');
  for (let job = 1; !stop && job <= most; job++) {
    tell(`X_WORKERSD_BEGIN=job-${job}`);
    await sleep(1000 * process.argv[2]); // the work
    console.log(`job ${job} done`);
    tell(`X_WORKERSD_END=job-${job}`, 'X_WORKERSD_RESULT=ok', `X_WORKERSD_COUNT=${job}`);
  }
})();
