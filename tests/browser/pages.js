// Every page in both themes and on a telephone: nothing is refused by the policy, nothing is too wide, everybody can use
// it. With SHOTS=DIR pictures of them are left there.
import { mkdirSync, readFileSync } from "node:fs";

import { accessible, check, fits, logIn, story } from "./lib.js";

const shots = process.env.SHOTS;
const pages = JSON.parse(process.env.PAGES);

const picture = async (page, name) => {
  if (!shots) return;
  mkdirSync(shots, { recursive: true });
  await page.screenshot({ path: `${shots}/${name}.png`, fullPage: true });
};

await story(async (open) => {
  const page = await open({ viewport: { width: 1360, height: 850 } });
  // To look at a change of the style without building: STYLE=FILE.
  if (process.env.STYLE) {
    await page.context().route(/\.css$/, (route) => route.fulfill({ contentType: "text/css", body: readFileSync(process.env.STYLE, "utf8") }));
  }
  await logIn(page, process.env.WHO ?? "admin");
  for (const path of pages) {
    const name = path.split("?")[0].replaceAll("/", "-").slice(1) || "overview";
    const answer = await page.goto(path);
    check(answer.status() === 200, `${path} answered ${answer.status()}`);
    check((await page.locator("main h1").count()) === 1, `${path} has not one heading`);
    await page.emulateMedia({ colorScheme: "light" });
    await accessible(page);
    await picture(page, `${name}-light`);
    await page.emulateMedia({ colorScheme: "dark" });
    await accessible(page);
    await picture(page, `${name}-dark`);
    await page.emulateMedia({ colorScheme: "light" });
    await page.setViewportSize({ width: 390, height: 844 });
    await fits(page);
    await picture(page, `${name}-phone`);
    await page.setViewportSize({ width: 1360, height: 850 });
  }
  check((await page.locator("script:not([src])").count()) === 0, "a page has a script of its own");

  // Without scripts each page is there all the same, and the live ones load themselves again.
  const plain = await open({ javaScriptEnabled: false });
  await plain.goto("/login");
  await plain.locator("input[name=name]").fill(process.env.WHO ?? "admin");
  await plain.locator("input[name=password]").fill("correct horse battery");
  await plain.locator("form[action='/login'] button").click();
  await plain.locator("form[action='/logout']").waitFor();
  await plain.goto("/");
  check((await plain.locator("meta[http-equiv=refresh]").count()) > 0, "the overview does not load itself again");
  for (const path of pages) check((await plain.goto(path)).status() === 200, `${path} without scripts`);
});
