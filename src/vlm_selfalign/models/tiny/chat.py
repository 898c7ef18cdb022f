"""Chat templates in the shapes of the real families, in our own words.

All take system, user and assistant turns, contents that are a string or a list of typed parts, and
``add_generation_prompt``. A prompt with its generation prompt is always the beginning of the same
conversation with the answer in it.
"""

from __future__ import annotations

_CONTENT = (
    "{%- set media = {MEDIA} -%}{%- macro shown(content) -%}"
    "{%- if content is string -%}{{ content }}{%- else -%}{%- for part in content -%}"
    "{%- if part['type'] == 'text' -%}{{ part['text'] }}"
    "{%- elif part['type'] in media -%}{{ media[part['type']] }}"
    "{%- else -%}{{ raise_exception('this family takes no ' + part['type']) }}"
    "{%- endif -%}{%- endfor -%}{%- endif -%}{%- endmacro -%}"
)

_CHATML = (
    "{%- for message in messages -%}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + shown(message['content']) + '<|im_end|>\\n' }}"
    "{%- endfor -%}{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}"
)

_DEFAULT_SYSTEM = (
    "{%- if messages[0]['role'] != 'system' -%}"
    "{{ '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}{%- endif -%}"
)


def _shows(image: str = "", video: str = "") -> str:
    media = [f"'{kind}': '{token}'" for kind, token in (("image", image), ("video", video)) if token]
    return _CONTENT.replace("MEDIA", ", ".join(media))


def chatml(image: str = "", video: str = "", default_system: bool = False) -> str:
    """``<|im_start|>user ... <|im_end|>``: Qwen, LLaVA-OneVision, InternVL."""
    return _shows(image, video) + (_DEFAULT_SYSTEM if default_system else "") + _CHATML


def vicuna() -> str:
    """``USER: ... ASSISTANT: ...</s>``: LLaVA 1.5. The space after ``ASSISTANT:`` belongs to the answer."""
    return (
        _shows("<image>\\n") + "{%- for message in messages -%}"
        "{%- if message['role'] == 'assistant' -%}{{ 'ASSISTANT: ' + shown(message['content']) + '</s>' }}"
        "{%- elif message['role'] == 'user' -%}{{ 'USER: ' + shown(message['content']) + ' ' }}"
        "{%- else -%}{{ shown(message['content']) + ' ' }}{%- endif -%}{%- endfor -%}"
        "{%- if add_generation_prompt -%}{{ 'ASSISTANT:' }}{%- endif -%}"
    )


def utterances(start: str, video: str = "") -> str:
    """``User:<image>...<end_of_utterance> Assistant: ...``: Idefics 3 and SmolVLM; no space before a picture."""
    return (
        _shows("<image>", video) + "{{ '" + start + "' }}{%- for message in messages -%}"
        "{%- set content = message['content'] -%}"
        "{%- set bare = content is not string and content and content[0]['type'] == 'image' -%}"
        "{{ message['role'] | capitalize + (':' if bare else ': ') + shown(content) + '<end_of_utterance>\\n' }}"
        "{%- endfor -%}{%- if add_generation_prompt -%}{{ 'Assistant:' }}{%- endif -%}"
    )


def gemma() -> str:
    """``<start_of_turn>user ... <end_of_turn>``: Gemma 3. A system turn opens the first user turn."""
    return (
        _shows("<start_of_image>") + "{{ '<bos>' }}{%- set told = namespace(words='') -%}"
        "{%- for message in messages -%}{%- if message['role'] == 'system' -%}"
        "{%- set told.words = shown(message['content']) + '\\n\\n' -%}{%- else -%}"
        "{{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' else message['role']) + '\\n' }}"
        "{{ told.words + shown(message['content']) + '<end_of_turn>\\n' }}{%- set told.words = '' -%}"
        "{%- endif -%}{%- endfor -%}{%- if add_generation_prompt -%}{{ '<start_of_turn>model\\n' }}{%- endif -%}"
    )


def headers() -> str:
    """``<|start_header_id|>user<|end_header_id|> ... <|eot_id|>``: Llama 3, text alone."""
    return (
        _shows() + "{{ '<|begin_of_text|>' }}{%- for message in messages -%}"
        "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}"
        "{{ shown(message['content']) + '<|eot_id|>' }}{%- endfor -%}"
        "{%- if add_generation_prompt -%}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{%- endif -%}"
    )
