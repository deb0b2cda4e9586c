// @ts-check
// The prompt for a token, in place of the board.
import { h, icon, setText } from "./dom.js";

const HELP =
  "The server asks for its DTQ_TOKEN, or for DTQ_READ_TOKEN to look only. It is kept until this tab is closed.";

export class SignIn {
  #problem = h("p.problem", { id: "token-problem", role: "alert" });
  #token = h("input", {
    type: "password",
    id: "token",
    autocomplete: "off",
    "aria-describedby": "token-help token-problem",
  });

  /** @param {(token: string) => void} signIn */
  constructor(signIn) {
    /** @param {SubmitEvent} event */
    const onsubmit = (event) => {
      event.preventDefault();
      const token = this.#token.value.trim();
      if (token) signIn(token);
      this.#token.value = "";
    };
    this.element = h(
      "form.prompt",
      { hidden: true, onsubmit },
      icon("mark"),
      h("h2", "Sign in to this queue"),
      h("p", { id: "token-help" }, HELP),
      h("label", { for: "token" }, "Token"),
      this.#token,
      this.#problem,
      h("button.primary", { type: "submit" }, "Sign in"),
    );
  }

  /** @param {boolean} refused whether a token was wrong */
  ask(refused) {
    setText(this.#problem, refused ? "The server does not know this token." : "");
    this.#token.focus();
  }
}
