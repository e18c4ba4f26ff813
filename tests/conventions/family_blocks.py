"""transformers' sparse layers, each built tiny from its own configuration."""

import importlib
import inspect
from types import SimpleNamespace

BLOCKS = dict(line.split(maxsplit=1) for line in """\
mixtral MixtralSparseMoeBlock
minimax MiniMaxSparseMoeBlock
qwen3_moe Qwen3MoeSparseMoeBlock
qwen3_vl_moe Qwen3VLMoeTextSparseMoeBlock
mellum MellumSparseMoeBlock
olmoe OlmoeSparseMoeBlock
flex_olmo FlexOlmoSparseMoeBlock
jamba JambaSparseMoeBlock
granitemoe GraniteMoeMoE
qwen3_omni_moe Qwen3OmniMoeThinkerTextSparseMoeBlock
dbrx DbrxFFN
aria AriaTextMoELayer
hunyuan_v1_moe HunYuanMoEV1Moe
lara_mini LaraMiniSparseMoeBlock
granitemoeshared GraniteMoeSharedMoE GraniteMoeSharedMLP
granitemoe_swa GraniteMoeSWAMoE GraniteMoeSWAMLP
granitemoehybrid GraniteMoeHybridMoE GraniteMoeHybridMLP
deepseek_v2 DeepseekV2Moe
deepseek_ocr2 DeepseekOcr2TextMoe
unlimited_ocr UnlimitedOcrTextMoe
qwen2_moe Qwen2MoeSparseMoeBlock
qwen3_next Qwen3NextSparseMoeBlock
qwen3_5_moe Qwen3_5MoeSparseMoeBlock
qwen4_exp Qwen4ExpTextSparseMoeBlock
mistral4 Mistral4MoE
mistral_large4 MistralLarge4TextMoE
ernie4_5_moe Ernie4_5_MoeSparseMoeBlock
ernie4_5_vl_moe Ernie4_5_VLMoeMoeBlock
longcat_flash LongcatFlashMoE
jetmoe JetMoeMoE
phimoe PhimoeSparseMoeBlock
gemma4 Gemma4TextExperts
diffusion_gemma DiffusionGemmaTextExperts
gpt_oss GptOssMLP
openai_privacy_filter OpenAIPrivacyFilterMLP
cohere2_moe Cohere2MoeSparseMoeBlock
deepseek_v3 DeepseekV3MoE
deepseek_v32 DeepseekV32MoE
axk1 AXK1MoE
bailing_hybrid BailingHybridMoE
dots1 Dots1MoE
dots3_note Dots3NoteTextMoE
exaone_moe ExaoneMoeSparseMoEBlock
glm4_moe Glm4MoeMoE
glm4_moe_lite Glm4MoeLiteMoE
glm4v_moe Glm4vMoeTextMoE
glm_moe_dsa GlmMoeDsaMoE
kimi_linear KimiLinearMoE
solar_open SolarOpenMoE
mimo_v2_flash MiMoV2FlashMoE
beam BeamMoE
axk2 AXK2MoE
afmoe AfmoeSparseMoeBlock
hy_v3 HYV3MoE
minimax_m2 MiniMaxM2SparseMoeBlock
lfm2_moe Lfm2MoeSparseMoeBlock
laguna LagunaSparseMoeBlock
step3p7 Step3p7SparseMoeBlock
flint FlintSparseMoeBlock
kolibri1 Kolibri1SparseMoeBlock
glm5_next Glm5NextTextMoE
hy_v4 HYV4MoE
hy_v4_vl HYV4VLMoE
minimax_m3_vl MiniMaxM3VLSparseMoeBlock
deepseek_v4 DeepseekV4SparseMoeBlock
inkling InklingMoE
inkling2 Inkling2SparseMoeBlock
inkling2_loop Inkling2LoopSparseMoeBlock
muse_spark MuseSparkMoE
nemotron_h NemotronHMoE
llama4 Llama4TextMoe
switch_transformers SwitchTransformersSparseMLP
nllb_moe NllbMoeSparseMLP
zaya ZayaSparseMoeBlock
""".splitlines())
D, F, S, E, K = 16, 24, 40, 8, 3
EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
CHOICES = ("num_experts_per_tok", "moe_topk", "moe_top_k", "moe_k", "top_k_experts")
SHARED = ("n_shared_experts", "num_shared_experts", "moe_num_shared_experts")
SMALL = {**dict.fromkeys(EXPERTS, E), **dict.fromkeys(CHOICES, K), "hidden_size": D,
         "moe_intermediate_size": F, "intermediate_size": F, "ffn_hidden_size": F, "d_ff": F,
         "shared_expert_intermediate_size": S, "shared_intermediate_size": S,
         "moe_shared_expert_intermediate_size": S, "shared_experts_intermediate_size": S,
         "share_expert_dim": S, "n_shared_experts": 2, "num_shared_experts": 2,
         "moe_hidden_size": 32, "router_jitter_noise": 0.0, "expert_capacity": 3,
         "swiglu_limit": 1.0,
         "moe_token_dropout": 0.0}


def has(config, name):
    """Whether a configuration has an attribute that is the same for all layers."""
    try:
        return hasattr(config, name)
    except RuntimeError:
        return False


def default(folder):
    """Return a folder's own configuration of its text model, or of whatever has experts."""
    module = importlib.import_module(f"transformers.models.{folder}.configuration_{folder}")
    return next(config for name, cls in vars(module).items() if inspect.isclass(cls)
                and cls.__module__ == module.__name__ and name.endswith("Config")
                and any(has(config := cls(), attribute) for attribute in EXPERTS))


def tiny(folder):
    """Return a folder's own configuration with small sizes, and the rest as it is by default."""
    config = default(folder)
    for name, value in SMALL.items():
        if has(config, name):
            many = isinstance(getattr(config, name), list)
            setattr(config, name, [value, value] if many else value)
    if getattr(config, "n_group", None) == 8:
        config.n_group, config.topk_group = 4, 2
    return config


def classes(folder):
    """Return what a folder's modeling file defines, by name."""
    return vars(importlib.import_module(f"transformers.models.{folder}.modeling_{folder}"))


def build(torch, folder, kind="float32", experts="eager", **settings):
    """Return a folder's layer with random weights, and its configuration."""
    config, (name, *beside) = tiny(folder), BLOCKS[folder].split()
    for field, value in {"_experts_implementation": experts, **settings}.items():
        setattr(config, field, value)
    cls = classes(folder)[name]
    more = {"layer_idx": 3 * (folder == "deepseek_v4"), "ffn_dim": F}
    layer = cls(SimpleNamespace(ffn_config=config) if folder == "dbrx" else config, **{
        field: value for field, value in more.items()
        if field in inspect.signature(cls.__init__).parameters})
    for name in beside:                                    # what the decoder layer has beside it
        layer.shared_mlp = classes(folder)[name](config)
    if folder == "axk1":
        layer.post_mlp_layernorm = torch.nn.Identity()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, value in [*layer.named_parameters(), *layer.named_buffers()]:
            size = 1.0 if "gate.weight" in name or "router" in name else 0.3
            value.copy_(size * torch.randn(value.shape, generator=generator))
    return layer.eval().to(getattr(torch, kind)), config


def output(layer, x):
    """Return a layer's output, with the shared expert that the decoder layer adds."""
    y = layer(x)
    y = y[0] if isinstance(y, tuple) else y
    beside = type(layer).__name__.startswith("Granite") and hasattr(layer, "shared_mlp")
    return (y + layer.shared_mlp(x) if beside else y).reshape(x.shape)


def settings(config, weights):
    """Return what a configuration sets, in the names of `SwitchConfig.like`."""
    found = {"num_experts": E, "top_k": next(
        (getattr(config, name) for name in CHOICES if has(config, name)), 1)}
    if getattr(config, "n_group", None) and config.n_group > 1:
        found |= {"select_groups": config.n_group, "select_groups_kept": config.topk_group}
    if "shared_w_in" in weights:
        found |= {"shared_experts": 1, "shared_width": weights["shared_w_in"].shape[1]}
    for theirs, ours in (("swiglu_limit", "expert_limit"), ("expert_capacity", "capacity")):
        if has(config, theirs):
            found[ours] = getattr(config, theirs)
    strategy = getattr(config, "shared_expert_combination_strategy", None)
    return found | ({"shared_average": True} if strategy == "average" else {})


def logits_of(layer, x):
    """Return the router's logits, as the model's balance loss gets them."""
    seen = []
    router = next(part for part in (getattr(layer, name, None) for name in (
        "gate", "router", "text_moe")) if part is not None)
    router = getattr(router, "gate", router) if type(router).__name__.endswith("Block") else router
    hook = router.register_forward_hook(lambda _, given, out: seen.append(out))
    layer(x)
    hook.remove()
    out = seen[0]
    if not isinstance(out, tuple):
        return out                                                      # dbrx
    return out[-1] if out[-1].shape[-1] == E and out[-1].is_floating_point() else out[0]
