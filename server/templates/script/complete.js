
// Completion of selectors: offers what may stand next, below the field. Arrow keys choose, Enter or Tab takes, Escape closes.

const completed = (input) => {
  const list = document.createElement("ul");
  list.className = "options";
  list.id = `${input.id}-options`;
  list.setAttribute("role", "listbox");
  list.setAttribute("aria-label", "What may come next");
  list.hidden = true;
  input.after(list);
  for (const [name, value] of [["role", "combobox"], ["aria-autocomplete", "list"], ["aria-controls", list.id], ["aria-expanded", "false"]]) {
    input.setAttribute(name, value);
  }
  let from = 0, chosen = -1, asked = 0, wait = 0;

  const close = () => {
    list.hidden = true;
    chosen = -1;
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
  };
  const mark = (n) => {
    const options = [...list.children];
    chosen = (n + options.length) % options.length;
    options.forEach((option, k) => option.setAttribute("aria-selected", String(k === chosen)));
    input.setAttribute("aria-activedescendant", options[chosen].id);
    options[chosen].scrollIntoView({ block: "nearest" });
  };
  const put = (text) => {
    const rest = input.value.slice(input.selectionStart);
    const head = input.value.slice(0, from) + text + (text.endsWith("(") ? "" : " ");
    input.value = head + rest.trimStart();
    input.setSelectionRange(head.length, head.length);
    close();
    ask();
  };
  const show = (offer) => {
    from = offer.from;
    list.replaceChildren(...offer.options.map((text, k) => {
      const option = document.createElement("li");
      option.id = `${list.id}-${k}`;
      option.setAttribute("role", "option");
      option.textContent = text;
      option.addEventListener("mousedown", (event) => { event.preventDefault(); put(text); });
      return option;
    }));
    chosen = -1;
    list.hidden = offer.options.length === 0;
    input.setAttribute("aria-expanded", String(!list.hidden));
  };
  const ask = () => {
    clearTimeout(wait);
    wait = setTimeout(async () => {
      const own = ++asked;
      const text = input.value.slice(0, input.selectionStart);
      try {
        const answer = await fetch(`${input.dataset.complete}?text=${encodeURIComponent(text)}`);
        if (answer.ok && own === asked && document.activeElement === input) show(await answer.json());
      } catch {
        close();
      }
    }, 120);
  };
  input.addEventListener("input", ask);
  input.addEventListener("blur", close);
  input.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown" && list.hidden) return ask();
    if (list.hidden) return;
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      mark(event.key === "ArrowDown" ? chosen + 1 : chosen < 0 ? -1 : chosen - 1);
    } else if ((event.key === "Enter" || event.key === "Tab") && chosen >= 0) {
      event.preventDefault();
      put(list.children[chosen].textContent);
    } else if (event.key === "Escape") {
      event.preventDefault();
      close();
    }
  });
};

document.querySelectorAll("input[data-complete]").forEach(completed);
