// Somebody starts a progressive rollout, watches it stop by itself without loading the page again, and rolls it back.
import { accessible, logIn, shown, story } from "./lib.js";

await story(async (open) => {
  const page = await open();
  await logIn(page, "operator");
  await page.goto("/rollouts/new?release=pos-app@2.0.0");
  await page.getByLabel("Name", { exact: true }).first().fill("spring");
  await page.locator("[name='phases[0].percent']").fill("50");
  await page.locator("[name='halt[0].max_failures']").fill("0");
  await page.getByRole("button", { name: "Make and start it" }).click();
  await shown(page, "It has started.");
  console.log("started");

  await shown(page, "halt: 1 device failed");
  await page.locator("#state").getByText("paused", { exact: true }).waitFor();
  await page.locator("#failures").getByText("1 ×").waitFor();
  await accessible(page);
  await page.locator("summary", { hasText: "Roll back…" }).click();
  await shown(page, "Brings 1 device with pos-app@2.0.0 back");
  await page.locator("#why-rollback").fill("it prints no receipts");
  await page.getByRole("button", { name: "Roll back", exact: true }).click();
  await shown(page, "This rollout takes back what spring brought.");
  console.log("rolled back");
  await page.locator("#state").getByText("completed", { exact: true }).waitFor();
});
