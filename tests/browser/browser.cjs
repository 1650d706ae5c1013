// The browser is $CHROMIUM, or `chromium` on the PATH.
const fs = require("node:fs");
const path = require("node:path");
const { chromium } = require("playwright-core");

function browserProgram() {
  const named = process.env.CHROMIUM;
  const folders = process.env.PATH.split(path.delimiter);
  const program = named || folders.map((folder) => path.join(folder, "chromium")).find(fs.existsSync);
  if (!program) throw new Error("chromium is not on the PATH: run tests/tools first, or set CHROMIUM to its path");
  return program;
}

/** A browser without a window. */
exports.launch = () =>
  chromium.launch({
    executablePath: browserProgram(),
    headless: true,
    args: [
      "--headless",
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
      "--autoplay-policy=no-user-gesture-required",
    ],
  });
