// Reads a case of the vectors and judges a loop of its own, in float: y and the gradient of w_out.
// Usage: judge CASE.safetensors LIMIT. The exit status is 0 for a pass, 1 for a failure, 2 otherwise.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

std::string file;

template <class T> std::vector<T> tensor(const std::string& name) {
  uint64_t length;
  std::memcpy(&length, file.data(), 8);
  size_t at = file.find("\"" + name + "\":{"), begin, end;
  if (at == std::string::npos || at > length) std::exit((std::printf("no %s\n", name.c_str()), 2));
  at = file.find("\"data_offsets\":[", at) + 16;
  std::sscanf(file.c_str() + at, "%zu,%zu", &begin, &end);
  std::vector<T> values((end - begin) / sizeof(T));
  std::memcpy(values.data(), file.data() + 8 + length + begin, end - begin);
  return values;
}

bool judge(const std::string& name, const std::vector<float>& got, double limit) {
  auto want = tensor<double>("ref." + name), sigma = tensor<double>("sigma.float32." + name);
  double worst = 0;
  for (size_t i = 0; i < want.size(); i++) {
    double error = std::fabs(got[i] - want[i]);
    if (!(error <= limit * sigma[i])) return std::printf("%s[%zu] is wrong\n", name.c_str(), i), false;
    if (error > 0) worst = std::fmax(worst, error / sigma[i]);
  }
  return std::printf("%s ok, worst %.2f sigma\n", name.c_str(), worst), true;
}

int main(int count, char** words) {
  std::ifstream stream(count == 3 ? words[1] : "", std::ios::binary);
  file.assign(std::istreambuf_iterator<char>(stream), {});
  if (file.size() < 8) return std::printf("usage: judge CASE.safetensors LIMIT\n"), 2;
  auto x = tensor<double>("in.x"), r = tensor<double>("in.d_y"), w_router = tensor<double>("in.w_router"),
       w_in = tensor<double>("in.w_in"), w_out = tensor<double>("in.w_out");
  auto expert = tensor<int64_t>("plan.expert"); auto kept = tensor<uint8_t>("plan.kept");
  size_t T = tensor<int64_t>("plan.group").size(), D = x.size() / T, E = w_router.size() / D,
         K = expert.size() / T, F = w_in.size() / (E * D);
  std::vector<float> y(T * D), d_w_out(E * F * D);
  for (size_t t = 0; t < T; t++) {
    std::vector<float> p(E);
    float top = -1e30f, total = 0;
    for (size_t e = 0; e < E; e++) { for (size_t d = 0; d < D; d++) p[e] += float(x[t*D+d]) * float(w_router[d*E+e]); top = std::fmax(top, p[e]); }
    for (float& v : p) total += v = std::exp(v - top);
    for (size_t k = 0; k < K; k++) if (size_t e = expert[t*K+k]; kept[t*K+k]) for (size_t f = 0; f < F; f++) {
      float hidden = 0, gate = GATE;
      for (size_t d = 0; d < D; d++) hidden += float(x[t*D+d]) * float(w_in[(e*D+d)*F+f]);
      for (size_t d = 0; d < D && hidden > 0; d++) { y[t*D+d] += gate * hidden * float(w_out[(e*F+f)*D+d]); d_w_out[(e*F+f)*D+d] += hidden * gate * float(r[t*D+d]); }
    }
  }
  return judge("y", y, std::atof(words[2])) & judge("d_w_out", d_w_out, std::atof(words[2])) ? 0 : 1;
}
