"""Fine-tunes the same model on the same conversations with Hugging Face's peft and Trainer.

Prints a line of JSON.
"""

import argparse
import json
import time

import facts
import peft
import torch
import transformers

IGNORED = -100  # a label that is not trained on


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("model", help="a folder of transformers")
    add("--epochs", type=int, required=True)
    add("--batch-size", type=int, required=True, help="conversations in a batch")
    add("--learning-rate", type=float, required=True)
    add("--rank", type=int, required=True)
    add("--threads", type=int, default=2)
    add("--bfloat16", action="store_true", help="autocast, as Trainer's bf16 [float32]")
    add("--ask", action="store_true", help="ask the questions, before and after")
    return parser.parse_args()


def main(args):
    torch.set_num_threads(args.threads)
    transformers.set_seed(1)
    tokenizer = transformers.AutoTokenizer.from_pretrained(args.model)
    tokenizer.pad_token = tokenizer.eos_token  # of labels that are not trained on
    model = transformers.AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32)
    before = answer_all(model, tokenizer) if args.ask else None
    config = peft.LoraConfig(
        r=args.rank, lora_alpha=2 * args.rank, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    model = peft.get_peft_model(model, config)
    examples = [encode(tokenizer, row["messages"]) for row in facts.conversations()]
    settings = transformers.TrainingArguments(
        "unused", num_train_epochs=args.epochs, per_device_train_batch_size=args.batch_size,
        learning_rate=args.learning_rate, lr_scheduler_type="cosine", warmup_steps=0.1,
        weight_decay=0.0, logging_strategy="no", save_strategy="no", report_to=[], use_cpu=True,
        train_sampling_strategy="group_by_length", disable_tqdm=True,
        bf16=args.bfloat16,
    )  # fmt: skip
    collate = transformers.DataCollatorForSeq2Seq(tokenizer, label_pad_token_id=IGNORED)
    trainer = transformers.Trainer(model, settings, collate, examples)
    begin = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - begin
    num_tokens = args.epochs * sum(len(example["input_ids"]) for example in examples)
    result = {"seconds": seconds, "tokens_per_second": num_tokens / seconds, "before": before}
    if args.ask:
        result["after"] = answer_all(model.merge_and_unload(), tokenizer)
    print(json.dumps(result))


def encode(tokenizer, messages):
    """Trained on what the assistant says, and on the token that ends it."""
    prompt = tokenizer.apply_chat_template(
        messages[:-1], add_generation_prompt=True, return_dict=False
    )
    answer = tokenizer.encode(messages[-1]["content"] + tokenizer.eos_token)
    return {"input_ids": prompt + answer, "attention_mask": [1] * len(prompt + answer),
            "labels": [IGNORED] * len(prompt) + answer}  # fmt: skip


def answer_all(model, tokenizer):
    """How many of the held-out questions have the right answer, greedily."""
    model.eval()
    right = 0
    for question, key in facts.questions():
        messages = [{"role": "user", "content": question}]
        inputs = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_dict=True, return_tensors="pt"
        )
        with torch.no_grad():
            ids = model.generate(**inputs, max_new_tokens=24, do_sample=False)
        right += key in tokenizer.decode(ids[0, inputs["input_ids"].shape[1] :])
    model.train()
    return right


if __name__ == "__main__":
    main(parse_arguments())
