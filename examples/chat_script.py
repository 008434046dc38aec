"""Answers in OpenAI's chat shape, for the chat server and the agent.

    aiosmrt serve --port 8080 --script examples/chat_script.py

Who offers a tool is asked to call it; everybody else is told a text, word by word.
"""

from aiosmrt.local import InvocationRequest, LocalEndpoint

CALL = {"id": "1", "function": {"name": "get_weather", "arguments": '{"city": "Oslo"}'}}


def script(endpoint: LocalEndpoint) -> None:
    """Say what is answered, the exception before the rule."""
    endpoint.answer(chat={"tool_calls": [CALL]}, on=offers_tool, times=None)
    endpoint.answer(chat="It rains in Oslo: take a coat.", pace=0.2, times=None)


def offers_tool(request: InvocationRequest) -> bool:
    """Tell whether there is a tool that was not called yet."""
    asked = request.json
    return "tools" in asked and asked["messages"][-1]["role"] == "user"
