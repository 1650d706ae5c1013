// Plays a recording in a page of another origin, and prints the result as JSON.
//
//   node audio_player.cjs AUDIO_URL
//
// The page knows only the URL. It seeks far beyond the buffered part and continues to play there.
const http = require("node:http");
const { launch } = require("./browser.cjs");

const [url] = process.argv.slice(2);
const PAGE = `<!doctype html><title>A CRM</title><audio preload="metadata" muted></audio>`;

/** In the page: gives what the player says, step by step. */
async function play(source) {
  const audio = document.querySelector("audio");
  const happens = (name, isSo = () => true) =>
    new Promise((resolve, reject) => {
      audio.addEventListener(name, () => isSo() && resolve());
      audio.addEventListener("error", () => reject(new Error(audio.error.message)));
    });
  const loaded = happens("loadedmetadata");
  audio.src = source;
  await loaded;
  const duration = audio.duration;
  const target = Math.floor(duration * 0.75);
  const bufferedBefore = audio.buffered.length ? audio.buffered.end(audio.buffered.length - 1) : 0;
  const seeked = happens("seeked");
  audio.currentTime = target;
  await seeked;
  const playsOn = happens("timeupdate", () => audio.currentTime > target + 0.3);
  await audio.play();
  await playsOn;
  audio.pause();
  return { duration, target, bufferedBefore, currentTime: audio.currentTime, readyState: audio.readyState };
}

async function main() {
  const server = http.createServer((_, response) => response.setHeader("content-type", "text/html").end(PAGE));
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const browser = await launch();
  try {
    const page = await browser.newPage();
    page.setDefaultTimeout(600_000);
    const answers = [];
    page.on("response", async (response) => {
      if (response.url() !== url) return;
      const asked = await response.request().allHeaders();
      answers.push({
        status: response.status(),
        range: asked.range,
        contentRange: response.headers()["content-range"],
        cookie: asked.cookie,
        authorization: asked.authorization,
      });
    });
    await page.goto(`http://127.0.0.1:${server.address().port}/`);
    const played = await page.evaluate(play, url);
    console.log(JSON.stringify({ ...played, answers }));
  } finally {
    await browser.close();
    server.close();
  }
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
