// Somebody finds out why a till waits, and holds a shop.
import { accessible, check, logIn, shown, story } from "./lib.js";

await story(async (open) => {
  const page = await open();
  await logIn(page, "operator");
  await page.goto("/devices");
  // By what is offered while one types, with the keyboard.
  const field = page.getByLabel("Which devices");
  await field.pressSequentially("site = BOS");
  await page.getByRole("option", { name: "BOS-001" }).waitFor();
  await field.press("ArrowDown");
  await field.press("Enter");
  check((await field.inputValue()) === "site = BOS-001 ", await field.inputValue());
  await field.press("Escape");
  await field.press("Enter");
  await page.waitForURL(/selector=site/);
  await page.getByRole("link", { name: "pos-boston-001" }).click();
  await page.getByRole("heading", { name: "Why?" }).waitFor();
  await shown(page, process.env.WHY);
  await accessible(page);

  await page.goto("/devices?selector=region+%3D+(");
  await shown(page, "column 10: expected");

  // Many at once: what it would do is said before.
  await page.goto("/devices?selector=site+%3D+NYC-001");
  await page.getByLabel("all that are like this, on every page").check();
  await page.getByRole("button", { name: "Hold…" }).click();
  await page.getByRole("heading", { name: "2 devices" }).waitFor();
  await page.getByRole("button", { name: "What would happen?" }).click();
  await shown(page, "reason is empty");
  await page.getByLabel("Why").fill("the shop is rebuilt");
  await page.getByRole("button", { name: "What would happen?" }).click();
  await shown(page, "2 devices: no rollout touches them until the hold is lifted");
  await accessible(page);
  await page.getByRole("button", { name: "Hold devices" }).click();
  await shown(page, "2 devices held.");
  await page.goto("/devices/pos-nyc-001");
  await shown(page, "the shop is rebuilt");
  await page.getByRole("button", { name: "Lift the hold" }).click();
  await shown(page, "The hold of pos-nyc-001 is lifted.");
});
