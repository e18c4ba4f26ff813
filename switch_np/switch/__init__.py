"""The paper's Switch layer and nothing else, in reading order.

`config` (the options), `router` (equation 1), `plan` (who goes where: equation 3), `gates` (the
weights of equation 2), `dispatch` (tokens to their experts' rows), `feed_forward` (one expert),
`experts` (E of them), `combine` (rows back to their tokens), `mixture` (dispatch, experts, combine:
equation 2), `balance_loss` (equations 4 to 6), `z_loss`, and `layer`, which composes them.

Comparisons look at `.real`, so that tests can differentiate the forward by complex step. Modules
here import `operations` only; `config` also the three leaves of `conventions`.

From the paper to the line. Names are below `switch_np`; `python -m switch_np equations` prints them
with files and lines. Where a name is too long for its column, the derivative is on the next line.

==========================  ==========================================  ============================
in the paper                computed by                                 derivative
==========================  ==========================================  ============================
equation 1: router          switch.router.forward                       switch.router.backward
equation 1: its softmax     operations.softmax.forward                  operations.softmax.backward
equation 2: gates           switch.gates.forward                        switch.gates.backward
equation 2: E_i(x)          switch.experts.forward                      switch.experts.backward
equation 2: mixture         switch.mixture.forward                      switch.mixture.backward
equation 2: weighted sum    switch.combine.forward                      switch.combine.backward
equation 3: capacity        switch.config.SwitchConfig.expert_capacity  none: discrete
equation 3: who is dropped  switch.plan.decide                          none: discrete
equation 3: slots           switch.plan.fill                            none: discrete
equations 4 to 6: balance   switch.balance_loss.forward                 switch.balance_loss.backward
equation 4: α, added up     transformer.model.loss
                                                                     transformer.model.loss_backward
equation 5: f, the counts   switch.plan.fill                            none: discrete
section 2: the model        transformer.model.forward                   transformer.model.backward
section 2: its blocks       transformer.block.forward                   transformer.block.backward
section 2: missing spans    training.span_corruption.missing_spans      none: data
section 2.1: layer, k = 1   switch.layer.forward                        switch.layer.backward
section 2.1: public call    switch_layer.forward                        switch_layer.backward
section 2.1: router at k=1  switch.gates.forward                        switch.gates.backward
section 2.1: one expert     switch.feed_forward.forward                 switch.feed_forward.backward
section 2.1: E experts      switch.experts.forward                      switch.experts.backward
section 2.2: capacity       switch.config.SwitchConfig.expert_capacity  none: discrete
section 2.2: slots, drops   switch.plan.decide                          none: discrete
section 2.2: dispatch       switch.dispatch.forward                     switch.dispatch.backward
section 2.2: drops give 0   switch.mixture.forward                      switch.mixture.backward
section 2.2: the residual   transformer.block.forward                   transformer.block.backward
section 2.2: layer          switch.layer.forward                        switch.layer.backward
section 2.2: losses, added  transformer.router_losses.forward
                                                                  transformer.router_losses.backward
section 2.3: table 1        experiments.table1.summary                  none: data
section 2.4: cast, float32  operations.rounded.cast                     operations.rounded.cast
section 2.4: layer's casts  switch.layer.forward                        switch.layer.backward
section 2.4: in bfloat16    training.selective.stored                   training.selective.gradients
section 2.4: table 2        experiments.table2.summary                  none: data
section 2.4: small weights  operations.initialization.truncated_normal  none: data
section 2.4: layer's init   switch_layer.init                           none: data
section 2.4: table 3        experiments.table3.summary                  none: data
section 2.4: dropout        operations.dropout.forward                  operations.dropout.backward
section 2.4: in an expert   switch.feed_forward.forward                 switch.feed_forward.backward
section 2.4: dropout masks  conventions.noise.draw_noise                none: data
section 2.4: table 4        experiments.table4.summary                  none: data
section 3.1: figure 4       experiments.figure4.summary                 none: data
section 4.1: fine-tuning    training.pairs.encoder_decoder              none: data
section 4.2: distillation   experiments.distillation.advance            in the same function
section 4.2: its loss       experiments.soft_cross_entropy.forward
                                                             experiments.soft_cross_entropy.backward
section 4.2: 0.75 and 0.25  experiments.soft_cross_entropy.mixed_targets
                                                                        none: data
section 4.3: multilingual   not here                                    none
section 5: layouts          parallel.mesh.lay_out                       none: data
section 5: rows per rank    parallel.route.decide                       none: discrete
section 5: all-to-all       parallel.all_to_all.forward                 parallel.all_to_all.backward
section 5: a rank's layer   parallel.layer.forward                      parallel.layer.backward
section 5: a rank's model   parallel.model.loss
                                                                       parallel.model.loss_and_grads
appendix A: attention       transformer.switch_heads.forward
                                                                   transformer.switch_heads.backward
appendix B: next best       switch.plan.pass_on                         none: discrete
appendix C: noise, drawn    conventions.noise.draw_noise                none: data
appendix C: on the input    switch.router.forward                       switch.router.backward
appendix C: sampling        switch.layer.choose                         none: discrete
appendix C: compared        experiments.exploration.summary             none: data
appendix D: few experts     experiments.figure4.summary                 none: data
appendix E: downstream      not here                                    none
appendix F: balance loss    switch.balance_loss.forward                 switch.balance_loss.backward
appendix F: router          switch.router.forward                       switch.router.backward
appendix F: dispatch        switch.dispatch.forward                     switch.dispatch.backward
appendix F: combine         switch.combine.forward                      switch.combine.backward
appendix F: layer           switch.layer.forward                        switch.layer.backward
ST-MoE, equation 5: z-loss  switch.z_loss.forward                       switch.z_loss.backward
==========================  ==========================================  ============================
"""
