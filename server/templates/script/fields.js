
// Small help with forms: copying, ticking all boxes of a table, closing a confirmation, not sending a form twice.

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const text = document.getElementById(button.dataset.copy)?.textContent ?? "";
  await navigator.clipboard.writeText(text);
  button.textContent = "Copied";
});

document.addEventListener("change", (event) => {
  const all = event.target.closest("[data-all]");
  if (!all) return;
  for (const box of document.querySelectorAll(`input[name="${CSS.escape(all.dataset.all)}"]`)) box.checked = all.checked;
});

document.addEventListener("keydown", (event) => {
  const box = event.key === "Escape" && event.target.closest("details.confirm[open]");
  if (!box) return;
  box.open = false;
  box.querySelector("summary").focus();
});

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.method !== "post") return;
  if (form.dataset.sent) return event.preventDefault();
  form.dataset.sent = "yes";
  setTimeout(() => delete form.dataset.sent, 5_000);
});
