"""Asks a language model to explain a decision: OPENAI_BASE_URL=http://… OPENAI_API_KEY=… python client.py"""

from openai import OpenAI, RateLimitError

client = OpenAI(max_retries=0)
question = "Why was the loan of applicant 4711 declined? Her e-mail address is ada@example.com."
answer = client.chat.completions.create(
    model="explainer-1",
    messages=[
        {"role": "system", "content": "Explain decisions of the loan model in one sentence."},
        {"role": "user", "content": question},
    ],
)
print(answer.choices[0].message.content)

words = client.chat.completions.create(
    model="explainer-1", messages=[{"role": "user", "content": "And in short?"}], stream=True
)
print("".join(chunk.choices[0].delta.content or "" for chunk in words if chunk.choices))

vectors = client.embeddings.create(model="embedder-1", input=["income", "debt"])
print(f"{len(vectors.data)} embeddings")

try:
    client.chat.completions.create(model="busy-1", messages=[{"role": "user", "content": question}])
except RateLimitError:
    print("busy-1 has no time")
