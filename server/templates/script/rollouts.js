// Shows what a rollout would do while somebody types: the form is sent to the address that it names, and the part that comes
// back takes the place of the one before. Without scripts the button "Preview" does the same.

const PREVIEW_AFTER_MS = 500;

for (const form of document.querySelectorAll("form[data-preview]")) {
  const part = document.getElementById("preview");
  let waiting = 0;
  let asking = null;
  const ask = async () => {
    asking?.abort();
    asking = new AbortController();
    part.classList.add("busy-part");
    try {
      const body = new URLSearchParams(new FormData(form));
      const answer = await fetch(form.dataset.preview, {
        method: "POST", body, signal: asking.signal, headers: { accept: "text/html", "x-callboard-live": "1" },
      });
      if (!answer.ok || answer.redirected) return;
      part.innerHTML = await answer.text();
    } catch {
      // Another one is on its way, or the server is away.
    } finally {
      part.classList.remove("busy-part");
    }
  };
  const soon = () => {
    clearTimeout(waiting);
    waiting = setTimeout(ask, PREVIEW_AFTER_MS);
  };
  form.addEventListener("input", soon);
  soon();
}
