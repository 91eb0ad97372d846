"""OpenAI's protocol: chat, completions, models, embeddings, with routing behind them."""
