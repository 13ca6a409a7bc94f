"use strict";
// Conversations: what `export/page_chat.py` made of the model's chat template, joined and encoded
// as `neo_keras/text/chat.py` does it.

/**
 * Makes the function that encodes conversations.
 *
 * @param {object} chat the strings in config.json.
 * @param {object} tokenizer of `makeTokenizer`.
 * @param {number} maxSeqLen the context.
 * @returns {function} `promptIds(messages, length)`: of [{role, content}], the last of a user,
 *   {ids, room, forgotten}: what to begin with, how many tokens the answer may have, and whether
 *   the oldest turns were left out because an answer of this length would not fit.
 * @throws {Error} the function does, if the last message alone does not fit the context.
 */
function makeChat(chat, tokenizer, maxSeqLen) {
  // A turn is encoded apart, so that a prompt is what it was before it was answered.
  function encodeAfter(mark, text) {
    for (const before of mark ? [mark, "\n"] : []) {
      const begin = tokenizer.encode(before), ids = tokenizer.encode(before + text);
      if (begin.every((id, i) => id === ids[i])) {
        return ids.slice(begin.length);
      }
    }
    return tokenizer.encode(text);
  }

  function answerOf(content) {
    return !chat.trims && content.startsWith(chat.space)
      ? content.slice(chat.space.length) : content.trim();
  }

  function encode(messages) {
    const [afterAsk, afterEnd] = chat.marks ?? ["", ""];
    let ids = [], text = "", before = chat.begin, mark = "";
    const flush = () => {
      ids = ids.concat(encodeAfter(mark, text));
      text = "";
    };
    for (const { role, content } of messages) {
      if (role === "system") {
        text = chat.system[0] + content;
        before = chat.system[1];
      } else if (role === "user") {
        text += before + content + chat.ask;
        flush();
        mark = afterAsk;
      } else {
        text = chat.space + answerOf(content) + chat.end;
        flush();
        mark = afterEnd;
        before = chat.next;
      }
    }
    return ids;
  }

  return function promptIds(messages, length) {
    const first = messages[0].role === "system" ? 1 : 0;
    const needed = Math.min(length, Math.floor(maxSeqLen / 2)) - 1;
    let ids = encode(messages), forgotten = false;
    while (ids.length + needed > maxSeqLen && messages.length > first + 1) {
      messages = [...messages.slice(0, first), ...messages.slice(first + 2)];
      ids = encode(messages);
      forgotten = true;
    }
    if (ids.length > maxSeqLen) {
      throw new Error(`the message has ${ids.length} tokens with all that the template adds, ` +
                      `and the context ${maxSeqLen}: write a shorter one`);
    }
    // The last token is sampled, and never read.
    return { ids, room: Math.min(length, maxSeqLen + 1 - ids.length), forgotten };
  };
}
