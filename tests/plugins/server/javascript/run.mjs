// One walk: `node run.mjs FILE NAME`, with the packages' folder in STOCKADE_JS_PACKAGES.
import { createRequire } from "node:module";
import { setTimeout as sleep } from "node:timers/promises";

const require = createRequire(`${process.env.STOCKADE_JS_PACKAGES}/`);
const [file, name] = process.argv.slice(2);
const sdk = { ...require("e2b"), interpreter: require("@e2b/code-interpreter"), until };

/** Wait until something holds; 20 seconds at most. */
async function until(holds, what) {
  for (let tries = 0; tries < 200; tries += 1) {
    if (await holds()) return;
    await sleep(100);
  }
  throw new Error(`this did not come: ${what}`);
}

const walk = (await import(file))[name];
await walk(sdk);
