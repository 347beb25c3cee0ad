// What every story uses: a browser, logging in, what pages must never do, and the check of accessibility.
//
// A story is a file here and is started by tests/tests/ui_browser.rs, which has made a server ready for it: its address
// is in URL, and what else it needs in variables of their own. What it prints is read line by line; it ends with 0, or
// with what went wrong.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

import { chromium } from "playwright-core";

export const PASSWORD = "correct horse battery";
export const url = process.env.URL;

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
// How long anything may take on a loaded machine.
const LIMIT_MS = 60_000;

// Plays a story in a new browser. Whatever a page writes to its console as an error, such as a refused script, fails it.
export const story = async (play) => {
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM,
    args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
  });
  const errors = [];
  const open = async (options = {}) => {
    // Nothing fades in: a look in the middle of it would see pale colours.
    const context = await browser.newContext({ baseURL: url, reducedMotion: "reduce", ...options });
    context.setDefaultTimeout(LIMIT_MS);
    const page = await context.newPage();
    page.on("pageerror", (error) => errors.push(`${page.url()}: ${error}`));
    page.on("console", (message) => {
      // That an answer is 403 or 422 is what some stories are about.
      const status = /Failed to load resource: the server responded with a status of (401|403|404|409|422)/;
      if (message.type() === "error" && !status.test(message.text())) errors.push(`${page.url()}: ${message.text()}`);
    });
    return page;
  };
  try {
    await play(open);
    if (errors.length) throw new Error(errors.join("\n"));
  } finally {
    await browser.close();
  }
};

export const check = (holds, what) => {
  if (!holds) throw new Error(what);
};

// Logs in by the page.
export const logIn = async (page, name) => {
  await page.goto("/login");
  await page.getByLabel("Name", { exact: true }).fill(name);
  await page.getByLabel("Password").fill(PASSWORD);
  await page.getByRole("button", { name: "Log in" }).click();
  await page.getByRole("button", { name: "Log out" }).waitFor();
};

// Fails for what keeps people from using the page.
export const accessible = async (page) => {
  // From outside: the page's own policy allows no script from elsewhere, and that is as it should be.
  await page.evaluate(axe);
  const found = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
  const serious = found.violations.filter((one) => ["serious", "critical"].includes(one.impact));
  const told = serious.map((one) => `${one.id}: ${one.help}\n  ${one.nodes.map((node) => node.html).slice(0, 3).join("\n  ")}`);
  check(told.length === 0, `${page.url()} is not accessible:\n${told.join("\n")}`);
};

// Fails if a page is wider than the screen.
export const fits = async (page) => {
  const [wide, screen] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
  check(wide <= screen, `${page.url()} is ${wide} wide on a screen of ${screen}`);
};

export const shown = (page, text) => page.getByText(text).first().waitFor();
