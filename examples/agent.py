"""An agent with a tool, by the OpenAI SDK over this client.

    python examples/agent.py my-endpoint 'Do I need a coat in Oslo?'

Needs the extra `aiosmrt[openai]`, and a container that speaks OpenAI's chat shape with tools.
"""

import asyncio
import json
import sys
from typing import Any

import aiosmrt

TOOLS: list[Any] = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Say how the weather is.",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}},
                "required": ["city"],
            },
        },
    }
]


async def get_weather(city: str) -> str:
    """Play the tool."""
    return f"4 °C and rain in {city}"


async def run(ai: Any, messages: list[Any]) -> str:  # noqa: ANN401 - an openai.AsyncOpenAI
    """Ask until the model wants no more tools, and give its answer."""
    while True:
        completion = await ai.chat.completions.create(model="", messages=messages, tools=TOOLS)
        message = completion.choices[0].message
        messages.append(message.model_dump(exclude_none=True))
        if not message.tool_calls:
            return message.content or ""
        for call in message.tool_calls:
            arguments = json.loads(call.function.arguments)
            result = await get_weather(**arguments)
            messages.append({"role": "tool", "tool_call_id": call.id, "content": result})


async def main(endpoint_name: str, prompt: str) -> None:
    """Ask once."""
    async with aiosmrt.SageMakerRuntimeClient() as client:
        ai = aiosmrt.openai.connect(client, endpoint_name=endpoint_name)
        print(await run(ai, [{"role": "user", "content": prompt}]))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
