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
SMALL = {**dict.fromkeys(EXPERTS, E), "hidden_size": D, "moe_intermediate_size": F,
         "intermediate_size": F, "ffn_hidden_size": F, "expert_ffn_hidden_size": F,
         "shared_expert_intermediate_size": S, "shared_intermediate_size": S,
         "moe_shared_expert_intermediate_size": S, "shared_experts_intermediate_size": S,
         "share_expert_dim": S, "num_experts_per_tok": K, "moe_topk": K, "moe_top_k": K,
         "moe_k": K, "top_k_experts": K, "zero_expert_num": 4, "moe_hidden_size": 32,
         "router_jitter_noise": 0.0, "input_jitter_noise": 0.0, "n_shared_experts": 2,
         "num_shared_experts": 2, "moe_num_shared_experts": 2, "router_hidden_size": 12}


def has(config, name):
    """Whether a configuration has an attribute that is the same for all layers."""
    try:
        return hasattr(config, name)
    except (ValueError, RuntimeError):      # it may differ between layers
        return False


def tiny(folder):
    """Return a folder's own configuration with small sizes, and the rest as it is by default."""
    module = importlib.import_module(f"transformers.models.{folder}.configuration_{folder}")
    config = next(config for name, cls in vars(module).items() if inspect.isclass(cls)
                  and cls.__module__ == module.__name__ and name.endswith("Config")
                  and any(has(config := cls(), attribute) for attribute in EXPERTS))
    for name, value in SMALL.items():
        if has(config, name):
            many = isinstance(getattr(config, name), list)
            setattr(config, name, [value, value] if many else value)
    if getattr(config, "n_group", None) == 8:
        config.n_group, config.topk_group = 4, 2
    return config


def build(folder, experts="eager", **settings):
    """Return a folder's layer, and its configuration."""
    names = BLOCKS[folder].split()
    classes = vars(importlib.import_module(f"transformers.models.{folder}.modeling_{folder}"))
    config = tiny(folder)
    for name, value in {"_experts_implementation": experts, **settings}.items():
        setattr(config, name, value)
    asked = SimpleNamespace(ffn_config=config) if folder == "dbrx" else config
    takes = inspect.signature(classes[names[0]].__init__).parameters
    block = classes[names[0]](asked, **{name: value for name, value in (
        ("layer_idx", 3 * (folder == "deepseek_v4")), ("ffn_dim", F)) if name in takes})
    if len(names) == 2:
        block.shared_mlp = classes[names[1]](config)
    return block, config
