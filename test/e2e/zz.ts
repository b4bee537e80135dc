import { execFileSync } from 'node:child_process';
import { mkdtempSync, statfsSync, rmSync } from 'node:fs';
import { NodeProcess, whereabouts } from './node-process.ts';
import { ask, untilReady } from './api.ts';
const f=mkdtempSync('/tmp/zz-'); const dir=f+'/d'; execFileSync('mkdir',[dir]);
execFileSync('mount',['-t','tmpfs','-o','size=320m','tmpfs',dir]);
const n=NodeProcess.start(f,{DATA_DIR:dir,DEMO:'off',SHARDS:'8',RATE_LIMIT_PER_MINUTE:'1000000'});
const at=await whereabouts(n); await untilReady(at.http);
const s0=statfsSync(dir);
console.log('free MB', s0.bavail*s0.bsize/1e6);
execFileSync('fallocate',['-l',String(s0.bavail*s0.bsize-2097152),dir+'/ballast']);
let next=0;
for(let i=0;i<200;i++){
 const body=Array.from({length:500},(_,k)=>({twinId:`machine:D${(next+k)%5}`,at:new Date(Date.UTC(2026,0,1)+(next+k)*1000).toISOString(),values:{temperature:50+((next+k)%20)/2},attributes:{note:'x'.repeat(200)}}));
 const t=performance.now();
 const a=await ask(at.http,'POST','/api/v1/telemetry',{key:at.key,body});
 if(a.status!==200){console.log(i,a.status,Math.round(performance.now()-t),a.text); break;}
 next+=500;
}
console.log('next',next);
for(let i=0;i<6;i++){const r=await ask(at.http,'GET','/health/ready'); console.log(r.status,r.text); const fl=await ask(at.http,'GET','/api/v1/twins/machine:D1',{key:at.key}); console.log(fl.status, JSON.stringify(fl.json?.data?.stale ?? fl.json)); const l=await ask(at.http,'GET','/api/v1/twins?limit=1',{key:at.key}); console.log('list',l.status,l.text.slice(0,300)); await new Promise(r=>setTimeout(r,1500));}
console.log(n.output.slice(-4500));
rmSync(dir+'/ballast');
const t=performance.now();
for(let i=0;i<20;i++){ const r=await ask(at.http,'GET','/health/ready'); const p=await ask(at.http,'POST','/api/v1/telemetry',{key:at.key,body:[{twinId:'machine:D1',values:{temperature:51}}]}); console.log('after room',Math.round(performance.now()-t),r.status,p.status,p.text.slice(0,200)); if(p.status===200)break; await new Promise(r=>setTimeout(r,1000));}
n.signal('SIGKILL'); await n.ended(); execFileSync('umount',['-l',dir]); process.exit();
